//! The same as a picture: a bar for each way, with its stages in it.

use std::fmt::Write;
use std::time::Duration;

use super::measure::{Measured, Quartiles};
use super::{micros, ratio, stages};

const COLOURS: [&str; 9] = [
    "#4e79a7", "#76b7b2", "#59a14f", "#f28e2b", "#b07aa1", "#edc948", "#e15759", "#9c755f",
    "#bab0ac",
];
/// Of the longest bar.
const WIDTH: f64 = 560.0;
const LEFT: f64 = 90.0;
const ROW: f64 = 34.0;

/// Text as XML has it.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no way to write these.
            letter if letter.is_control() => out.push('\u{fffd}'),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

pub(super) fn picture(title: &str, measured: &[Measured]) -> String {
    let times: Vec<_> = measured.iter().map(|one| Quartiles::of(&one.started)).collect();
    let longest = times.iter().flatten().map(|it| micros(it.third)).fold(1.0, f64::max);
    let scale = WIDTH / longest;
    let mut body = String::new();
    let mut y = 44.0;
    for (one, own) in measured.iter().zip(&times) {
        text(&mut body, 10.0, y + 15.0, one.way.name());
        if let Some(own) = own {
            bar(&mut body, y, scale, *own, &one.by_stage());
            let ratio = ratio(times.first().copied().flatten(), Some(*own));
            let ratio = ratio.map_or_else(String::new, |ratio| format!(", {ratio:.2} of plain"));
            let label = format!("{:.0} µs{ratio}", micros(own.median));
            text(&mut body, LEFT + micros(own.third) * scale + 8.0, y + 15.0, &label);
        } else {
            text(&mut body, LEFT, y + 15.0, "not measured");
        }
        y += ROW;
    }
    for (name, colour) in stages::names().zip(COLOURS) {
        y += 18.0;
        rectangle(&mut body, LEFT, y - 11.0, 12.0, 12.0, colour);
        text(&mut body, LEFT + 20.0, y, name);
    }
    let height = y + 20.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"{height:.0}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<title>{title}</title>\n\
         <rect width=\"900\" height=\"{height:.0}\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"24\" font-size=\"15\">{title}: medians and quartiles until the exec</text>\n\
         {body}</svg>\n",
        title = escaped(title)
    )
}

/// The stages as parts of the median, and the quartiles as a line.
fn bar(out: &mut String, y: f64, scale: f64, own: Quartiles, stages: &[Option<Duration>]) {
    let whole = micros(own.median) * scale;
    rectangle(out, LEFT, y, whole, 20.0, COLOURS[8]);
    // They were measured with the log on, which takes time: their shares hold.
    let sum: f64 = stages.iter().flatten().map(|time| micros(*time)).sum();
    let mut x = LEFT;
    for (time, colour) in stages.iter().zip(COLOURS) {
        let width = time.map_or(0.0, |time| micros(time) / sum.max(1e-9) * whole);
        if width > 0.0 {
            rectangle(out, x, y, width, 20.0, colour);
        }
        x += width;
    }
    let [from, to] = [own.first, own.third].map(|time| LEFT + micros(time) * scale);
    let _ = writeln!(
        out,
        "<line x1=\"{from:.1}\" y1=\"{at:.1}\" x2=\"{to:.1}\" y2=\"{at:.1}\" stroke=\"black\" stroke-width=\"2\"/>",
        at = y + 10.0
    );
}

fn rectangle(out: &mut String, x: f64, y: f64, width: f64, height: f64, colour: &str) {
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\"/>"
    );
}

fn text(out: &mut String, x: f64, y: f64, text: &str) {
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(text));
}
