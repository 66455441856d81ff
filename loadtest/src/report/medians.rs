//! Of several tries of the same the one line that stands for them, whatever the subcommand.

use serde_json::{Map, Value, json};

use super::{median, rounded};

/// A line of JSON.
pub(crate) type Object = Map<String, Value>;

/// The members of a value that is an object; of any other none.
pub(crate) fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}

/// The line of several tries: of numbers the medians; of failures the sum. `None` of none.
pub(crate) fn of_tries(tries: &[&Object]) -> Option<Object> {
    let mut line = medians(tries, Missing::Unknown);
    line.remove("try");
    line.insert("median".to_owned(), json!(true));
    line.insert("tries".to_owned(), json!(tries.len()));
    let failures = tries.iter().filter_map(|line| line.get("failures")?.as_u64()).sum::<u64>();
    line.insert("failures".to_owned(), json!(failures));
    (!tries.is_empty()).then_some(line)
}

/// What a count means that one object has and another has not.
#[derive(Clone, Copy, Debug)]
enum Missing {
    /// It was not measured there, as nothing is of a try that failed: it does not count.
    Unknown,
    /// It stood at zero there, as reasons do that a relay did not name.
    Zero,
}

/// Of every key that any of them has: of objects the same of their members, of numbers the median, of anything else the first that
/// says something.
///
/// A number that is missing or `null` was not measured there, and does not count; but of objects within, a count that is missing was zero.
fn medians(all: &[&Object], missing: Missing) -> Object {
    let mut middle = Object::new();
    for key in all.iter().flat_map(|object| object.keys()) {
        if !middle.contains_key(key) {
            let values: Vec<&Value> = all.iter().filter_map(|object| object.get(key)).collect();
            let objects = match missing {
                Missing::Unknown => values.len(),
                Missing::Zero => all.len(),
            };
            middle.insert(key.clone(), middle_of(&values, objects));
        }
    }
    middle
}

/// Of the values that a key has; counts that are not among so many were zero.
fn middle_of(values: &[&Value], objects: usize) -> Value {
    let members: Vec<&Object> = values.iter().filter_map(|value| value.as_object()).collect();
    if !members.is_empty() {
        return Value::Object(medians(&members, Missing::Zero));
    }
    let mut numbers: Vec<f64> = values.iter().filter_map(|value| value.as_f64()).collect();
    if numbers.is_empty() {
        let says = values.iter().find(|value| !value.is_null());
        return says.copied().cloned().unwrap_or_default();
    }
    let counts = values.iter().all(|value| value.is_u64());
    if counts {
        numbers.resize(objects, 0.0);
    }
    // What is between two has no more digits than what was measured.
    let middle = rounded(median(numbers), 1e6);
    // Between two counts there may be a half.
    if counts && middle.fract() == 0.0 { json!(middle as u64) } else { json!(middle) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tries: &[Value]) -> Value {
        let tries: Vec<&Object> = tries.iter().map(|value| value.as_object().unwrap()).collect();
        Value::Object(medians(&tries, Missing::Unknown))
    }

    #[test]
    fn outliers_do_not_matter_and_the_shape_stays() {
        let value = |a: f64, b: u64| json!({"x": {"p50": a}, "n": b, "name": "quic", "none": null});
        let median = of(&[value(1.0, 5), value(90.5, 7), value(2.5, 100)]);
        assert_eq!(median, json!({"x": {"p50": 2.5}, "n": 7, "name": "quic", "none": null}));
    }

    #[test]
    fn a_count_that_is_missing_was_zero() {
        let tries =
            [json!({"skipped": {}}), json!({"skipped": {"late": 90}}), json!({"skipped": {"full": 4}})];
        assert_eq!(of(&tries), json!({"skipped": {"late": 0, "full": 0}}));
    }

    #[test]
    fn a_try_that_failed_has_no_figures_and_changes_none() {
        let tries = [
            json!({"sessions": 5, "frames_lost": 8, "skipped": {"late": 6}, "failures": 0}),
            json!({"sessions": 5, "failures": 1}),
            json!({"sessions": 5, "frames_lost": 10, "skipped": {}, "failures": 0}),
        ];
        let tries: Vec<&Object> = tries.iter().map(|value| value.as_object().unwrap()).collect();
        let line = of_tries(&tries).unwrap();
        assert_eq!((&line["frames_lost"], &line["skipped"]), (&json!(9), &json!({"late": 3})));
        assert_eq!((&line["failures"], &line["tries"]), (&json!(1), &json!(3)));
    }

    #[test]
    fn what_was_not_measured_in_a_try_does_not_count_whichever_that_is() {
        let tries =
            [json!({"age": null}), json!({"age": {"p50": 2.0}, "s": 1.5}), json!({"age": {"p50": 4.0}})];
        assert_eq!(of(&tries), json!({"age": {"p50": 3.0}, "s": 1.5}));
        assert_eq!(of(&[json!({"s": null}), json!({"s": 7.5})]), json!({"s": 7.5}));
        assert_eq!(of(&[json!({"mark": true}), json!({})]), json!({"mark": true}));
    }

    #[test]
    fn between_two_numbers_there_are_no_digits_of_the_computer_s() {
        assert_eq!(of(&[json!({"s": 8.523}), json!({"s": 9.097})]), json!({"s": 8.81}));
    }

    #[test]
    fn between_two_counts_there_is_a_half() {
        assert_eq!(of(&[json!({"n": 4}), json!({"n": 5})]), json!({"n": 4.5}));
        assert_eq!(of(&[json!({"n": 4}), json!({"n": 6})]), json!({"n": 5}));
    }

    #[test]
    fn failures_add_up_and_no_try_is_named() {
        let tries = [json!({"try": 1, "failures": 2}), json!({"try": 2, "failures": 3}), json!({"try": 3})];
        let tries: Vec<&Object> = tries.iter().map(|value| value.as_object().unwrap()).collect();
        let line = of_tries(&tries).unwrap();
        assert_eq!(Value::Object(line), json!({"median": true, "tries": 3, "failures": 5}));
        assert_eq!(of_tries(&[]), None);
    }
}
