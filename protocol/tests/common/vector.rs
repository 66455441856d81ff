//! The vectors in `protocol/vectors`: exact bytes and what they mean, as docs/protocol.md, section 10, describes them.

use serde_json::Value;
use tandem_protocol::LaneKind;

/// The vectors of one file.
pub(crate) fn load(file: &str) -> Vec<Value> {
    let path = format!("{}/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A vector's member that must be text.
pub(crate) fn text<'a>(vector: &'a Value, member: &str) -> &'a str {
    vector[member].as_str().unwrap_or_else(|| panic!("{vector} has no text `{member}`"))
}

/// Bytes from words of hexadecimal digits; `5a*300` is 300 times the byte 5a.
pub(crate) fn unhex(words: &str) -> Vec<u8> {
    let byte = |word: &str, at| u8::from_str_radix(&word[at..at + 2], 16).expect("two hexadecimal digits");
    words
        .split_whitespace()
        .flat_map(|word| {
            let (digits, times) = word.split_once('*').unwrap_or((word, "1"));
            let once: Vec<u8> = (0..digits.len()).step_by(2).map(|at| byte(digits, at)).collect();
            once.repeat(times.parse().expect("a count"))
        })
        .collect()
}

/// A lane kind as the document names it.
pub(crate) fn lane_kind(name: &str) -> LaneKind {
    let named = |kind: &LaneKind| format!("{kind:?}").eq_ignore_ascii_case(name);
    LaneKind::ALL.into_iter().find(named).unwrap_or_else(|| panic!("no lane kind is named {name}"))
}
