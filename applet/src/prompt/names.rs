//! Names of people and organisations, made fit to be shown: they come from afar.

/// Names of people and organisations are cut here.
const NAME_LENGTH: usize = 60;

/// A name as it can safely be shown: without control characters and marks that reorder or hide text, without runs of
/// blanks, and not too long.
pub fn clean(name: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
    };
    // A few times the length is enough to find the words, however long the name.
    let shown: String = name
        .chars()
        .take(NAME_LENGTH * 4)
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !hidden(*c))
        .collect();
    let words = shown.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    if words.chars().count() <= NAME_LENGTH {
        return words;
    }
    words.chars().take(NAME_LENGTH - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_clean_name_is_short_visible_and_stays_as_it_is(name in any::<String>()) {
            let cleaned = clean(&name);
            prop_assert!(cleaned.chars().count() <= NAME_LENGTH);
            prop_assert!(!cleaned.chars().any(char::is_control));
            prop_assert_eq!(clean(&cleaned), cleaned);
        }
    }

    #[test]
    fn marks_that_reorder_text_are_taken_out() {
        assert_eq!(clean("  Anna\u{202e}\n\n Berger\u{200b} "), "Anna Berger");
        assert_eq!(clean("محمد"), "محمد");
        assert_eq!(clean(&"x".repeat(1000)).chars().count(), NAME_LENGTH);
    }
}
