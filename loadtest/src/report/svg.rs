//! Charts as SVG: lines over two axes, in the page's own colours, so that they are readable in dark and light.

use std::fmt::Write as _;

/// Of the drawing, in its own units, and of the plot's margins in it.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 44.0;
/// Colours that the page has.
const COLOURS: usize = 6;

/// How an axis places values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From 0 on.
    Linear,
    /// Each factor of ten takes the same room.
    Log,
    /// Shares of a whole: each further nine takes the same room.
    Nines,
}

/// An axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis<'a> {
    pub(crate) label: &'a str,
    pub(crate) scale: Scale,
}

/// A line.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
    /// Which of the page's colours.
    pub(crate) colour: usize,
    pub(crate) dashed: bool,
    /// Each point is shown.
    pub(crate) marked: bool,
}

/// Shares beyond this are shown as this: a nine more would be another decade.
const NINES_MAX: f64 = 4.3;

/// Of values over no more than so many decades an axis shows no more than their own, with more ticks.
const DECADES_FEW: f64 = 1.7;
/// Where an axis of factors of ten begins at the lowest: less is shown as this.
const LOG_MIN: f64 = 1e-3;
/// Room beside these, in decades.
const MARGIN: f64 = 0.05;

impl Scale {
    /// Where a value is, in units of its own.
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Log => value.max(LOG_MIN).log10(),
            Self::Nines => (-(1.0 - value).max(1e-9).log10()).min(NINES_MAX),
        }
    }

    /// From where to where an axis goes that holds all of these.
    fn bounds(self, values: impl Iterator<Item = f64>) -> (f64, f64) {
        let (mut low, mut high) = (f64::MAX, f64::MIN);
        values.filter(|value| value.is_finite()).for_each(|value| {
            (low, high) = (low.min(value), high.max(value));
        });
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        match self {
            Self::Linear => (0.0, (high * 1.05).max(1e-9)),
            Self::Log => {
                let (low, high) = (self.place(low), self.place(high));
                if high - low > DECADES_FEW {
                    return (low.floor(), high.ceil());
                }
                let middle = (low + high) / 2.0;
                (low.min(middle - 0.35) - MARGIN, high.max(middle + 0.35) + MARGIN)
            }
            Self::Nines => (0.0, NINES_MAX),
        }
    }

    /// Values to be written beside an axis.
    fn ticks(self, (low, high): (f64, f64)) -> Vec<(f64, String)> {
        match self {
            Self::Linear => {
                let step = nice(high / 5.0);
                let count = (high / step).floor() as u32;
                (0..=count).map(|at| f64::from(at) * step).map(|value| (value, number(value))).collect()
            }
            Self::Log => {
                let parts =
                    if high - low > DECADES_FEW + 2.0 * MARGIN { &[1.0][..] } else { &[1.0, 2.0, 5.0] };
                let decades = low.floor() as i32..=high.ceil() as i32;
                let values =
                    decades.flat_map(|decade| parts.iter().map(move |part| part * 10f64.powi(decade)));
                let placed = values.map(|value| (value.log10(), number(value)));
                placed.filter(|(at, _)| (low - 1e-9..=high + 1e-9).contains(at)).collect()
            }
            Self::Nines => [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999]
                .map(|share| (self.place(share), format!("{} %", number((share * 1e6f64).round() / 1e4))))
                .into(),
        }
    }
}

/// The next of 1, 2, 5, 10, 20, …
fn nice(step: f64) -> f64 {
    let decade = 10f64.powf(step.max(1e-9).log10().floor());
    let parts = [1.0, 2.0, 5.0, 10.0];
    parts.into_iter().map(|part| part * decade).find(|&nice| nice >= step * 0.999).unwrap_or(step)
}

/// As short as it can be.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1e4 => format!("{}k", rounded(value / 1e3)),
        _ => rounded(value).to_string(),
    }
}

/// With three digits that matter.
pub(crate) fn short(value: f64) -> String {
    let digits = 2 - value.abs().max(1e-3).log10().floor() as i32;
    let parts = 10f64.powi(digits.max(0));
    number((value * parts).round() / parts)
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// Text for an element or an attribute.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // XML knows no others of these.
            letter if letter.is_control() && !matches!(letter, '\n' | '\t') => safe.push('\u{fffd}'),
            letter => safe.push(letter),
        }
    }
    safe
}

/// A chart. Lines without points are left out; without any line it says so.
pub(crate) fn chart(title: &str, x: Axis<'_>, y: Axis<'_>, series: &[Series]) -> String {
    let shown: Vec<&Series> = series.iter().filter(|series| !series.points.is_empty()).collect();
    let points = || shown.iter().flat_map(|series| &series.points);
    let frame = Frame {
        x: x.scale,
        y: y.scale,
        across: x.scale.bounds(points().map(|point| point.0)),
        up: y.scale.bounds(points().map(|point| point.1)),
    };
    let mut svg = format!(
        "<svg class=\"chart\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
        escaped(title)
    );
    frame.axes(&mut svg, x.label, y.label);
    for series in &shown {
        frame.line(&mut svg, series);
    }
    legend(&mut svg, &shown);
    if shown.is_empty() {
        let _ = writeln!(
            svg,
            "<text class=\"label\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">nothing was measured</text>",
            WIDTH / 2.0,
            HEIGHT / 2.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Charts in rows and columns as one drawing that stands alone, each with its title above it.
pub(super) fn stacked(heading: &str, rows: &[Vec<(String, String)>]) -> String {
    const TITLE: f64 = 26.0;
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0) as f64;
    let (width, height) = (columns * WIDTH, TITLE + rows.len() as f64 * (HEIGHT + TITLE));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"system-ui, sans-serif\">\n<title>{title}</title>\n\
         <style>\n{}</style>\n<rect width=\"{width}\" height=\"{height}\" style=\"fill: var(--paper)\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"20\">{title}</text>\n",
        super::html::STYLE,
        title = escaped(heading)
    );
    for (row, charts) in rows.iter().enumerate() {
        let top = TITLE + row as f64 * (HEIGHT + TITLE);
        for (column, (title, chart)) in charts.iter().enumerate() {
            let left = column as f64 * WIDTH;
            let _ = writeln!(
                svg,
                "<text class=\"title\" x=\"{}\" y=\"{}\">{}</text>",
                left + LEFT,
                top + 20.0,
                escaped(title)
            );
            let place =
                format!("<svg x=\"{left}\" y=\"{}\" width=\"{WIDTH}\" height=\"{HEIGHT}\"", top + TITLE);
            svg.push_str(&chart.replacen("<svg", &place, 1));
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// From values to places in the drawing.
struct Frame {
    x: Scale,
    y: Scale,
    across: (f64, f64),
    up: (f64, f64),
}

impl Frame {
    fn at_x(&self, placed: f64) -> f64 {
        let (low, high) = self.across;
        LEFT + (placed - low) / (high - low) * (WIDTH - LEFT - RIGHT)
    }

    fn at_y(&self, placed: f64) -> f64 {
        let (low, high) = self.up;
        HEIGHT - BOTTOM - (placed - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
    }

    fn axes(&self, svg: &mut String, x_label: &str, y_label: &str) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (placed, text) in self.y.ticks(self.up) {
            let y = self.at_y(placed);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>"
            );
            let _ = writeln!(
                svg,
                "<text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 8.0,
                y + 4.0
            );
        }
        for (placed, text) in self.x.ticks(self.across) {
            let x = self.at_x(placed);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>"
            );
            let _ = writeln!(
                svg,
                "<text class=\"tick\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>",
                bottom + 16.0
            );
        }
        let middle = (LEFT + right) / 2.0;
        let _ = writeln!(
            svg,
            "<text class=\"label\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 8.0,
            escaped(x_label)
        );
        let middle = (TOP + bottom) / 2.0;
        let _ = writeln!(
            svg,
            "<text class=\"label\" transform=\"translate(14 {middle}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escaped(y_label)
        );
    }

    fn line(&self, svg: &mut String, series: &Series) {
        let place = |&(x, y): &(f64, f64)| (self.at_x(self.x.place(x)), self.at_y(self.y.place(y)));
        let mut path = String::new();
        for (number, (x, y)) in series.points.iter().map(place).enumerate() {
            let _ = write!(path, "{}{x:.1} {y:.1}", if number == 0 { "M" } else { " L" });
        }
        let (colour, dashed) = (series.colour % COLOURS, if series.dashed { " dashed" } else { "" });
        let _ = writeln!(svg, "<path class=\"line c{colour}{dashed}\" d=\"{path}\"/>");
        for point in series.points.iter().filter(|_| series.marked) {
            let (x, y) = place(point);
            let tells = format!("{}: {}, {}", series.name, number(point.0), number(point.1));
            let _ = writeln!(
                svg,
                "<circle class=\"c{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{}</title></circle>",
                escaped(&tells)
            );
        }
    }
}

fn legend(svg: &mut String, shown: &[&Series]) {
    let mut x = LEFT;
    for series in shown {
        let (colour, dashed) = (series.colour % COLOURS, if series.dashed { " dashed" } else { "" });
        let _ =
            writeln!(svg, "<path class=\"line c{colour}{dashed}\" d=\"M{x:.1} 16 L{:.1} 16\"/>", x + 22.0);
        let _ = writeln!(
            svg,
            "<text class=\"tick\" x=\"{:.1}\" y=\"20\">{}</text>",
            x + 28.0,
            escaped(&series.name)
        );
        // About as wide as the text is.
        x += 44.0 + series.name.chars().count() as f64 * 6.4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn series(points: Vec<(f64, f64)>) -> Series {
        Series { name: "a < b & \"c\"".into(), points, colour: 9, dashed: true, marked: true }
    }

    const SCALES: [Scale; 3] = [Scale::Linear, Scale::Log, Scale::Nines];

    #[test]
    fn ticks_are_round_numbers_within_the_axis() {
        assert_eq!([0.3, 1.1, 4.0, 7.0, 30.0].map(nice), [0.5, 2.0, 5.0, 10.0, 50.0]);
        for scale in SCALES {
            for values in [[0.02, 0.7], [0.002, 0.9], [0.5, 0.5], [0.013, 0.52]] {
                let bounds = scale.bounds(values.into_iter());
                let ticks = scale.ticks(bounds);
                assert!(ticks.len() >= 2, "{scale:?}: {ticks:?}");
                assert!(
                    ticks.iter().all(|(at, _)| (bounds.0 - 1e-9..=bounds.1 + 1e-9).contains(at)),
                    "{scale:?}: {ticks:?}"
                );
            }
        }
    }

    #[test]
    fn short_numbers_say_what_matters() {
        let told = [436.991, 12.7791, 0.0011, 5.0, 98_765.4].map(short);
        assert_eq!(told, ["437", "12.8", "0.0011", "5", "98.765k"]);
    }

    #[test]
    fn more_is_further_up_and_to_the_right() {
        let frame = Frame { x: Scale::Log, y: Scale::Nines, across: (0.0, 3.0), up: (0.0, NINES_MAX) };
        assert!(frame.at_x(frame.x.place(100.0)) > frame.at_x(frame.x.place(10.0)));
        assert!(frame.at_y(frame.y.place(0.999)) < frame.at_y(frame.y.place(0.99)));
        assert!((frame.at_x(0.0) - LEFT).abs() < 1e-9 && (frame.at_x(3.0) - (WIDTH - RIGHT)).abs() < 1e-9);
    }

    /// Of any size, as often small as large; and nothing, which is what counters begin with.
    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![Just(0.0), (-12.0f64..7.0).prop_map(|decades| 10f64.powf(decades)), 0.0f64..1e7]
    }

    proptest! {
        #[test]
        fn every_chart_is_well_formed_and_within_its_frame(points in proptest::collection::vec((value(), value()), 0..20)) {
            for scale in SCALES {
                let axis = Axis { label: "x & y", scale };
                let svg = chart("<chart>", axis, axis, &[series(points.clone())]);
                let document = roxmltree::Document::parse(&svg).unwrap();
                for circle in document.descendants().filter(|node| node.has_tag_name("circle") || node.tag_name().name() == "circle") {
                    let at = |name| circle.attribute(name).unwrap().parse::<f64>().unwrap();
                    prop_assert!((LEFT - 1.0..=WIDTH - RIGHT + 1.0).contains(&at("cx")), "{scale:?} {svg}");
                    prop_assert!((TOP - 1.0..=HEIGHT - BOTTOM + 1.0).contains(&at("cy")), "{scale:?} {svg}");
                }
            }
        }
    }
}
