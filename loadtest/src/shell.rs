//! Words for a shell.

/// A word that a shell reads back as it is.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:,%+@".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// This program's own command line, to be typed again.
pub(crate) fn own_command() -> String {
    let words: Vec<String> = std::env::args().map(|word| quoted(&word)).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_written_so_that_a_shell_reads_it_back() {
        assert_eq!(quoted("--rate=20mbit"), "--rate=20mbit");
        assert_eq!(quoted("ping -c 1 x"), "'ping -c 1 x'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
