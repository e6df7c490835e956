//! The small plots of a service: what it did in the last five minutes, as points of an SVG that the
//! template frames, and the same in words for whoever does not see it.

use super::human;
use crate::state::Sample;

/// The size of the drawing, in the units of its points.
pub const WIDTH: usize = 300;
/// See [`WIDTH`].
pub const HEIGHT: usize = 48;

/// One drawing.
pub struct Plot {
    /// What it is about, as its caption.
    pub name: &'static str,
    /// What the upper edge stands for, for people.
    pub most: String,
    /// What it shows, in words.
    pub words: String,
    /// Curves with the word that their colour stands for.
    pub curves: Vec<Curve>,
}

/// One line of a drawing.
pub struct Curve {
    /// The class that gives it a colour, and its word in the legend.
    pub word: &'static str,
    /// Its last value, for people.
    pub now: String,
    /// Its points, as SVG writes them.
    pub points: String,
}

/// Open sessions, and throughput both ways.
pub fn plots(history: &[Sample]) -> [Plot; 2] {
    let curve =
        |word, value: fn(&Sample) -> u64| (word, history.iter().map(value).collect::<Vec<u64>>());
    let rate = |bytes| format!("{}/s", human::bytes(bytes));
    [
        plot("Open sessions", vec![curve("open", |s| s.open as u64)], |n| n.to_string()),
        plot(
            "Throughput",
            vec![curve("to clients", |s| s.to_client), curve("to servers", |s| s.to_server)],
            rate,
        ),
    ]
}

fn plot(
    name: &'static str,
    curves: Vec<(&'static str, Vec<u64>)>,
    show: impl Fn(u64) -> String,
) -> Plot {
    let top = curves.iter().flat_map(|(_, values)| values).copied().max().unwrap_or(0);
    let mut words = format!("{name} in the last five minutes");
    if curves.iter().all(|(_, values)| values.is_empty()) {
        words.push_str(": nothing measured yet");
    }
    for (word, values) in &curves {
        if let (Some(now), Some(most)) = (values.last(), values.iter().max()) {
            words.push_str(&format!("; {word}: now {}, at most {}", show(*now), show(*most)));
        }
    }
    let drawn = |(word, values): (&'static str, Vec<u64>)| Curve {
        word,
        now: values.last().map_or_else(|| "-".to_owned(), |now| show(*now)),
        points: points(&values, top),
    };
    Plot { name, most: show(top), words, curves: curves.into_iter().map(drawn).collect() }
}

/// The newest value at the right edge, the largest at the top.
fn points(values: &[u64], top: u64) -> String {
    let step = WIDTH / Sample::KEPT;
    let point = |(i, value): (usize, &u64)| {
        let x = WIDTH.saturating_sub((values.len() - 1 - i) * step);
        let height = (*value as f64 / top.max(1) as f64 * (HEIGHT - 2) as f64) as usize;
        format!("{x},{}", HEIGHT - 1 - height)
    };
    values.iter().enumerate().map(point).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_at_the_right_and_the_largest_at_the_top() {
        assert_eq!(points(&[0, 5, 10], 10), "290,47 295,24 300,1");
        assert_eq!(points(&[7], 7), "300,1");
        assert_eq!(points(&[], 0), "");
        assert_eq!(points(&[0; Sample::KEPT], 0).split(' ').next(), Some("5,47"));
    }

    #[test]
    fn a_plot_says_in_words_what_it_shows() {
        let samples = [
            Sample { open: 4, to_server: 10, to_client: 2_000 },
            Sample { open: 3, to_server: 20, to_client: 0 },
        ];
        let [open, rate] = plots(&samples);
        assert_eq!(open.words, "Open sessions in the last five minutes; open: now 3, at most 4");
        let both =
            "; to clients: now 0 B/s, at most 2.0 kB/s; to servers: now 20 B/s, at most 20 B/s";
        assert_eq!(rate.words, format!("Throughput in the last five minutes{both}"));
        assert!(plots(&[])[0].words.ends_with("nothing measured yet"));
    }
}
