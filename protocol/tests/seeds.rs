//! The fuzz targets of the wire begin with the vectors: `fuzz/seeds` holds them in each target's form. After a change of
//! the vectors, `WRITE_SEEDS=1 cargo test -p tandem-protocol --test seeds` makes the folder anew.

#[path = "common/vector.rs"]
mod vector;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vector::{lane_kind, load, text, unhex};

/// What precedes a message's body in the input of `protocol_message`.
const MESSAGES: [&str; 16] = [
    "Control",
    "Key",
    "Text",
    "Button",
    "Wheel",
    "Motion",
    "Held",
    "DisplayLayout",
    "LockKeys",
    "PeerPing",
    "PeerPong",
    "InputReport",
    "CursorShape",
    "CursorPosition",
    "ChatMessage",
    "ClipboardText",
];

/// One seed of each message with every field, each record, and each conversation in fragments.
fn seeds() -> BTreeMap<PathBuf, Vec<u8>> {
    let mut seeds = BTreeMap::new();
    let mut add = |target: &str, vector: &Value, first: u8, rest: Vec<u8>| {
        let name: String =
            text(vector, "name").chars().filter(|c| c.is_alphanumeric() || *c == ' ').collect();
        let path = Path::new(target).join(name.replace(' ', "-"));
        assert!(seeds.insert(path, [vec![first], rest].concat()).is_none(), "{vector} has another's name");
    };
    for vector in ["control.json", "input.json", "peer.json"].into_iter().flat_map(load) {
        let which =
            MESSAGES.iter().position(|name| *name == text(&vector, "message")).expect("a body's message");
        if text(&vector, "name").contains("every") || text(&vector, "name") == "hello, with a code" {
            add("protocol_message", &vector, which as u8, unhex(text(&vector, "hex")));
        }
    }
    for vector in load("records.json") {
        add("protocol_record", &vector, lane_kind(text(&vector, "lane")) as u8, unhex(text(&vector, "hex")));
    }
    for vector in load("fragments.json") {
        let side = u8::from(text(&vector, "sender") == "relay");
        let messages = vector["hex"].as_array().expect("fragments").iter().flat_map(|words| {
            let message = unhex(words.as_str().expect("hex"));
            [&(message.len() as u16).to_le_bytes(), &message[..]].concat()
        });
        add("protocol_mux", &vector, side, messages.collect());
    }
    seeds
}

fn stored(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let targets = ["protocol_message", "protocol_mux", "protocol_record"].into_iter();
    let files = targets.flat_map(|target| fs::read_dir(folder.join(target)).into_iter().flatten());
    let paths = files.map(|file| file.expect("a readable folder").path());
    paths
        .map(|path| {
            let bytes = fs::read(&path).expect("a readable file");
            (path.strip_prefix(folder).expect("inside").to_owned(), bytes)
        })
        .collect()
}

#[test]
fn the_seeds_are_the_vectors() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let seeds = seeds();
    if std::env::var_os("WRITE_SEEDS").is_some() {
        for path in stored(&folder).into_keys() {
            fs::remove_file(folder.join(path)).expect("an old seed goes");
        }
        for (path, bytes) in &seeds {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("the target's folder");
            fs::write(path, bytes).expect("a new seed");
        }
    }
    assert!(stored(&folder) == seeds, "WRITE_SEEDS=1 cargo test -p tandem-protocol --test seeds");
}
