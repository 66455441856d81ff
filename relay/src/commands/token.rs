//! `token`: keys and tokens for operators whose desk is their own.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, bail, ensure};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use clap::{Args, Subcommand, ValueEnum};
use jsonwebtoken::{Algorithm, EncodingKey, Header, dangerous, decode_header, encode};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use tandem_protocol::SessionId;
use tandem_protocol::token::{Claims, Confirmation, PublicKey, TokenRight, TokenRole};
use tandem_relay::admission::{TokenKeys, public_key, public_key_info};
use tandem_relay::private_file;

#[derive(Args, Debug)]
pub(super) struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a pair of keys: NAME.key signs tokens and stays at the desk, NAME.pem verifies them (tokens.directory).
    Key(Key),
    /// Sign a token and write it to stdout.
    Mint(Mint),
    /// Show what a token says, and whether the given keys have signed it.
    Inspect(Inspect),
}

#[derive(Args, Debug)]
struct Key {
    /// An existing directory.
    directory: PathBuf,
    /// What tokens call the key.
    #[arg(long, default_value = "desk")]
    name: String,
}

#[derive(Args, Debug)]
struct Mint {
    /// Private key in PEM (PKCS #8), as `token key` or `openssl genpkey -algorithm ed25519` make it.
    #[arg(long)]
    key: PathBuf,
    /// What the relay calls the key; by default the file's name without its ending.
    #[arg(long)]
    kid: Option<String>,
    /// The relay that the token is for, its tokens.audience.
    #[arg(long, default_value = "tandem")]
    audience: String,
    /// The tenant whose session it is.
    #[arg(long, default_value = "tandem")]
    tenant: String,
    /// The session, 32 hexadecimal digits; a new one if it is not said.
    #[arg(long)]
    session: Option<String>,
    /// What the participant is in the session.
    #[arg(long)]
    role: RoleName,
    /// The participant's id at the desk; by default its name.
    #[arg(long)]
    subject: Option<String>,
    /// The participant's name, shown to the customer.
    #[arg(long)]
    name: String,
    /// The participant's organisation, shown to the customer; by default the tenant.
    #[arg(long)]
    organisation: Option<String>,
    /// What the participant may ask the customer for; by default view, control, clipboard and chat.
    #[arg(long, value_delimiter = ',')]
    rights: Option<Vec<RightName>>,
    /// A lead: those who join later may be shown what was on the screen before.
    #[arg(long)]
    past: bool,
    /// How long the token is good to connect with.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    good_for: u32,
    /// Bind the token to this public key (PEM, Ed25519): whoever joins by it must show that they have its private half.
    #[arg(long, value_name = "FILE")]
    bind: Option<PathBuf>,
    /// After how long the participation ends, or the session if it is the customer's or the lead's.
    #[arg(long, value_name = "SECONDS")]
    ends_in: Option<u32>,
}

#[derive(Args, Debug)]
struct Inspect {
    /// The token; without it stdin is read, so that it is in no list of processes.
    token: Option<String>,
    /// Directory of public keys, the relay's tokens.directory.
    #[arg(long)]
    keys: Option<PathBuf>,
    /// The relay that it should be for.
    #[arg(long, default_value = "tandem")]
    audience: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleName {
    Customer,
    Lead,
    Collaborator,
    Monitor,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RightName {
    View,
    Control,
    Clipboard,
    SendFiles,
    ReceiveFiles,
    Chat,
    Audio,
}

impl Token {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Key(key) => key.run(),
            Command::Mint(mint) => mint.run(),
            Command::Inspect(inspect) => inspect.run(),
        }
    }
}

impl Key {
    fn run(self) -> anyhow::Result<ExitCode> {
        ensure!(!self.name.contains(['/', '.']), "a key's name becomes a file's: no slash, no dot");
        let pair = Ed25519KeyPair::generate().context("no random numbers from the system")?;
        let private = pair.to_pkcs8v1().context("cannot write the key")?;
        let public: [u8; 32] = pair.public_key().as_ref().try_into()?;
        let [private_path, public_path] =
            ["key", "pem"].map(|ending| self.directory.join(format!("{}.{ending}", self.name)));
        for path in [&private_path, &public_path] {
            ensure!(!path.exists(), "{} is there already", path.display());
        }
        private_file::write(&private_path, pem("PRIVATE KEY", private.as_ref()).as_bytes())?;
        std::fs::write(&public_path, pem("PUBLIC KEY", &public_key_info(&public)))
            .with_context(|| format!("cannot write {}", public_path.display()))?;
        println!("signs    {}", private_path.display());
        println!("verifies {}", public_path.display());
        Ok(ExitCode::SUCCESS)
    }
}

impl Mint {
    fn run(self) -> anyhow::Result<ExitCode> {
        let key = PrivatePkcs8KeyDer::from_pem_file(&self.key)
            .with_context(|| format!("{} holds no private key in PEM", self.key.display()))?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = self.kid.clone().or_else(|| stem(&self.key));
        let no_key = format!("{} holds no Ed25519 key", self.key.display());
        let claims = self.claims(unix_seconds())?;
        let token =
            encode(&header, &claims, &EncodingKey::from_ed_der(key.secret_pkcs8_der())).context(no_key)?;
        println!("{token}");
        Ok(ExitCode::SUCCESS)
    }

    fn claims(self, now: i64) -> anyhow::Result<Claims> {
        let session = match &self.session {
            None => SessionId(rand::random()),
            Some(session) => session.parse().ok().context("--session is 32 hexadecimal digits")?,
        };
        let rights = self.rights.unwrap_or_else(|| {
            vec![RightName::View, RightName::Control, RightName::Clipboard, RightName::Chat]
        });
        let customer = matches!(self.role, RoleName::Customer);
        let bound = self.bind.as_deref().map(public_key).transpose()?;
        let jwk = bound.map(|key| PublicKey::ed25519(URL_SAFE_NO_PAD.encode(key)));
        Ok(Claims {
            aud: self.audience,
            organisation: self.organisation.unwrap_or_else(|| self.tenant.clone()),
            tenant: self.tenant,
            sid: session.to_string(),
            sub: self.subject.unwrap_or_else(|| self.name.clone()),
            name: self.name,
            role: self.role.into(),
            rights: if customer { Vec::new() } else { rights.into_iter().map(TokenRight::from).collect() },
            past: self.past,
            nbf: now,
            exp: now + i64::from(self.good_for),
            end: self.ends_in.map(|seconds| now + i64::from(seconds)),
            jti: SessionId(rand::random()).to_string(),
            cnf: jwk.map(|jwk| Confirmation { jwk }),
        })
    }
}

impl Inspect {
    fn run(self) -> anyhow::Result<ExitCode> {
        let token = match self.token {
            Some(token) => token,
            None => {
                let mut token = String::new();
                std::io::stdin().take(64 << 10).read_to_string(&mut token).context("cannot read stdin")?;
                token
            }
        };
        let token = token.trim();
        let header = decode_header(token).context("this is no token")?;
        let claims =
            dangerous::insecure_decode::<Claims>(token).context("this is no token of a relay")?.claims;
        println!("kid          {}", header.kid.as_deref().unwrap_or("none"));
        println!("{}", serde_json::to_string_pretty(&claims)?);
        let Some(keys) = self.keys else { return Ok(ExitCode::SUCCESS) };
        let keys = TokenKeys::new(self.audience, &[], Some(keys))?;
        match keys.verify(token, SystemTime::now()) {
            Ok(_) => println!("a relay with these keys takes it now"),
            Err(refusal) => bail!("a relay with these keys refuses it: {refusal}"),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    // An Ed25519 key fits one line of 64 characters.
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

fn stem(path: &Path) -> Option<String> {
    path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned)
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

impl From<RoleName> for TokenRole {
    fn from(role: RoleName) -> Self {
        match role {
            RoleName::Customer => Self::Customer,
            RoleName::Lead => Self::Lead,
            RoleName::Collaborator => Self::Collaborator,
            RoleName::Monitor => Self::Monitor,
        }
    }
}

impl From<RightName> for TokenRight {
    fn from(right: RightName) -> Self {
        match right {
            RightName::View => Self::View,
            RightName::Control => Self::Control,
            RightName::Clipboard => Self::Clipboard,
            RightName::SendFiles => Self::SendFiles,
            RightName::ReceiveFiles => Self::ReceiveFiles,
            RightName::Chat => Self::Chat,
            RightName::Audio => Self::Audio,
        }
    }
}
