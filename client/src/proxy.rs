//! HTTP proxies: a WebSocket goes through a tunnel that is asked for with `CONNECT` (RFC 9110, section 9.3.6).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

use crate::link::Lost;
use crate::target::Target;

/// Longest head of a proxy's answer.
const HEAD_MAX: usize = 16 << 10;

/// A proxy's address, and what it wants to hear. `Debug` and `Display` show no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    host: String,
    port: u16,
    /// User name and password as `Proxy-Authorization` has them.
    credentials: Option<String>,
}

/// Not a proxy's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// Not a URL.
    #[error(
        "this is not a proxy's address, which looks like http://proxy.example:3128 or http://user:password@proxy.example:3128"
    )]
    Url,
    /// A URL of something else.
    #[error("a proxy's address begins with http://, not {0}://: other proxies are not supported")]
    Scheme(String),
}

impl FromStr for Proxy {
    type Err = ProxyError;

    /// An `http://` URL, or host and port alone.
    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let text = text.trim();
        let url = if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("http://{text}")) };
        let url = url.map_err(|_| ProxyError::Url)?;
        if url.scheme() != "http" {
            return Err(ProxyError::Scheme(url.scheme().to_owned()));
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(ProxyError::Url)?.to_owned();
        let port = url.port_or_known_default().ok_or(ProxyError::Url)?;
        let user = decoded(url.username());
        let credentials = (!user.is_empty() || url.password().is_some()).then(|| {
            let both = [&user[..], b":", &decoded(url.password().unwrap_or_default())].concat();
            STANDARD.encode(both)
        });
        Ok(Self { host, port, credentials })
    }
}

/// What a URL writes with `%`.
fn decoded(text: &str) -> Vec<u8> {
    let (mut rest, mut decoded) = (text.as_bytes(), Vec::with_capacity(text.len()));
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    while let [byte, after @ ..] = rest {
        rest = after;
        match after {
            [high, low, beyond @ ..] if *byte == b'%' => {
                if let (Some(high), Some(low)) = (digit(*high), digit(*low)) {
                    decoded.push(high * 16 + low);
                    rest = beyond;
                } else {
                    decoded.push(*byte);
                }
            }
            _ => decoded.push(*byte),
        }
    }
    decoded
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// Through which proxy relays are reached.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    proxy: Option<Proxy>,
    /// Relays that are reached without it.
    except: Vec<String>,
    /// Nor is this computer.
    except_loopback: bool,
}

impl Proxies {
    /// None at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// This one, always, but for a relay without TLS: that can only be on this computer.
    pub fn always(proxy: Proxy) -> Self {
        Self { proxy: Some(proxy), ..Self::default() }
    }

    /// As the environment says it: `HTTPS_PROXY`, else `ALL_PROXY`, but not for this computer and what `NO_PROXY` names: hosts, which stand for
    /// all below them too, with or without a port, or `*`. Names of variables in small letters come first.
    ///
    /// # Errors
    /// The variable's name, and what is wrong with it.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, (&'static str, ProxyError)> {
        let read = |names: [&'static str; 2]| {
            let value = |name| variable(name).filter(|value| !value.is_empty()).map(|value| (name, value));
            names.into_iter().find_map(value)
        };
        let named = read(["https_proxy", "HTTPS_PROXY"]).or_else(|| read(["all_proxy", "ALL_PROXY"]));
        let proxy = named.map(|(name, value)| value.parse().map_err(|error| (name, error))).transpose()?;
        let except = read(["no_proxy", "NO_PROXY"]).map(|(_, value)| value).unwrap_or_default();
        let except = except.split(',').map(|one| one.trim().to_ascii_lowercase());
        let except = except.filter(|one| !one.is_empty()).collect();
        Ok(Self { proxy, except, except_loopback: true })
    }

    /// The proxy on the way to this relay, if there is one.
    pub fn towards(&self, target: &Target) -> Option<&Proxy> {
        let proxy = self.proxy.as_ref().filter(|_| target.is_secure())?;
        let host = target.server_name().to_ascii_lowercase();
        let is_loopback = host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()) || host == "localhost";
        let authority = target.authority().to_ascii_lowercase();
        let excepted = |one: &String| {
            let domain = one.trim_start_matches("*.").trim_start_matches('.');
            one == "*"
                || *one == authority
                || domain == host
                || (host.parse::<IpAddr>().is_err() && host.ends_with(&format!(".{domain}")))
        };
        let direct = (self.except_loopback && is_loopback) || self.except.iter().any(excepted);
        (!direct).then_some(proxy)
    }
}

/// A tunnel through `proxy` to `target`.
pub(crate) async fn connect(proxy: &Proxy, target: &Target) -> Result<TcpStream, Lost> {
    let host = proxy.host.trim_start_matches('[').trim_end_matches(']');
    let connecting = TcpStream::connect((host, proxy.port)).await;
    let mut stream =
        connecting.map_err(|error| Lost::path(format!("the proxy {proxy} cannot be reached: {error}")))?;
    let authority = target.authority();
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    if let Some(credentials) = &proxy.credentials {
        request.push_str(&format!("Proxy-Authorization: Basic {credentials}\r\n"));
    }
    request.push_str("\r\n");
    let told = async {
        stream.write_all(request.as_bytes()).await?;
        read_head(&mut stream).await
    };
    let head =
        told.await.map_err(|error| Lost::path(format!("the proxy {proxy} ended the connection: {error}")))?;
    match status(&head) {
        Some(200..300) => Ok(stream),
        Some(407) if proxy.credentials.is_some() => {
            Err(Lost::path(format!("the proxy {proxy} does not accept this user name and password (407)")))
        }
        Some(407) => Err(Lost::path(format!(
            "the proxy {proxy} wants a user name and password (407): http://user:password@…"
        ))),
        Some(status) => {
            Err(Lost::path(format!("the proxy {proxy} does not connect to {authority} ({status})")))
        }
        None => Err(Lost::path(format!("{proxy} is no HTTP proxy"))),
    }
}

/// The head of the answer. Nothing comes after it before we speak: TLS begins with the client.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD_MAX {
        match stream.read(&mut piece).await? {
            0 if head.is_empty() => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            0 => break,
            read => head.extend_from_slice(&piece[..read]),
        }
    }
    Ok(head)
}

/// The status of an answer that is HTTP.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|&byte| byte == b'\r').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_http_url_and_shows_no_password() {
        let proxy: Proxy = "http://anna:p%40ss%3a@proxy.example:3128".parse().expect("a proxy");
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.example", 3128));
        assert_eq!(proxy.credentials.as_deref(), Some(STANDARD.encode("anna:p@ss:").as_str()));
        assert_eq!(
            format!("{proxy} {proxy:?}"),
            "http://proxy.example:3128 Proxy(http://proxy.example:3128)"
        );
        let plain: Proxy = "proxy.example:8080".parse().expect("a proxy");
        assert_eq!((plain.port, plain.credentials), (8080, None));
        assert_eq!("socks5://proxy.example".parse::<Proxy>(), Err(ProxyError::Scheme("socks5".into())));
        for bad in ["", "http://", "http://proxy.example:port", "a b"] {
            assert!(bad.parse::<Proxy>().is_err(), "{bad}");
        }
        assert_eq!(decoded("100%25 %zz%4"), b"100% %zz%4");
    }

    #[test]
    fn the_environment_names_a_proxy_and_what_is_reached_without_it() {
        let of = |pairs: &'static [(&str, &str)]| {
            Proxies::from_environment(move |name| {
                pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let target = |url: &str| Target::new(url, Vec::new()).expect("an address");
        let through = |proxies: &Proxies, url: &str| proxies.towards(&target(url)).map(ToString::to_string);
        let proxies = of(&[("ALL_PROXY", "http://b.example:1"), ("HTTPS_PROXY", "http://a.example:1")]);
        let proxies = proxies.expect("proxies");
        assert_eq!(through(&proxies, "https://relay.example").as_deref(), Some("http://a.example:1"));
        assert_eq!(through(&proxies, "https://127.0.0.1:8443"), None);
        let some = of(&[
            ("all_proxy", "b.example:1"),
            ("NO_PROXY", "relay.example, .inner.example,10.1.2.3,other.example:8443"),
        ]);
        let some = some.expect("proxies");
        for direct in [
            "https://relay.example",
            "https://eu.relay.example:1",
            "https://a.inner.example",
            "https://10.1.2.3",
            "https://other.example:8443",
        ] {
            assert_eq!(through(&some, direct), None, "{direct}");
        }
        for proxied in ["https://myrelay.example", "https://other.example", "https://10.1.2.30"] {
            assert_eq!(through(&some, proxied).as_deref(), Some("http://b.example:1"), "{proxied}");
        }
        let all = of(&[("https_proxy", "b.example:1"), ("no_proxy", "*")]).expect("proxies");
        assert_eq!(through(&all, "https://relay.example"), None);
        assert_eq!(of(&[("HTTPS_PROXY", "ftp://x")]).err().map(|(name, _)| name), Some("HTTPS_PROXY"));
        let always = Proxies::always("a.example:1".parse().expect("a proxy"));
        assert_eq!(through(&always, "https://127.0.0.1:8443").as_deref(), Some("http://a.example:1"));
        assert_eq!(through(&Proxies::none(), "https://relay.example"), None);
    }

    #[test]
    fn only_http_has_a_status() {
        assert_eq!(status(b"HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 407\r\n"), Some(407));
        for nonsense in [&b""[..], b"SSH-2.0-x\r\n", b"HTTP/1.1 no\r\n", &[0xff, 0xfe]] {
            assert_eq!(status(nonsense), None);
        }
    }
}
