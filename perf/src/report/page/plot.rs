//! A plot of lines as a picture in the page, drawn once for wide and once for narrow windows.

use maud::{Markup, html};

use super::scale::Scale;

/// A plot.
pub(super) struct Plot {
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
    /// Lines to compare with, such as line rates.
    pub(super) references: Vec<Line>,
}

/// What an axis says, and how it divides its room.
pub(super) struct Axis {
    pub(super) label: String,
    pub(super) scale: Scale,
    /// How a value is written.
    pub(super) text: fn(f64) -> String,
}

/// A line with its name.
pub(super) struct Line {
    pub(super) name: String,
    /// The number of its colour; a reference has none.
    pub(super) colour: usize,
    pub(super) points: Vec<[f64; 2]>,
}

/// More points than this are not marked one by one.
const MARKED: usize = 24;
/// Room that a line's name needs above or below another's.
const NAME_HEIGHT: f64 = 15.0;
/// Lines nearer than this lie on each other, and are drawn so far apart instead.
const NEAR: f64 = 3.0;
const APART: f64 = 4.0;
/// The most letters of a name beside its line; the legend has all of them.
const NAME_LETTERS: usize = 17;

/// The places of a picture in its own units.
struct Frame {
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    is_wide: bool,
}

impl Frame {
    fn wide() -> Self {
        Self {
            width: 760.0,
            height: 350.0,
            left: 64.0,
            right: 138.0,
            top: 30.0,
            bottom: 48.0,
            is_wide: true,
        }
    }

    fn narrow() -> Self {
        Self {
            width: 360.0,
            height: 290.0,
            left: 50.0,
            right: 14.0,
            top: 28.0,
            bottom: 46.0,
            is_wide: false,
        }
    }

    fn x(&self, place: f64) -> f64 {
        self.left + place * (self.width - self.left - self.right)
    }

    fn y(&self, place: f64) -> f64 {
        self.height - self.bottom - place * (self.height - self.top - self.bottom)
    }
}

fn px(value: f64) -> String {
    format!("{value:.1}")
}

fn path(places: &[(f64, f64)]) -> String {
    let point = |(n, (x, y)): (usize, &(f64, f64))| {
        format!("{}{x:.1} {y:.1}", if n == 0 { 'M' } else { 'L' })
    };
    places.iter().enumerate().map(point).collect()
}

impl Plot {
    /// The legend and both pictures.
    pub(super) fn draw(&self) -> Markup {
        html! {
            @if self.lines.len() > 1 {
                ul.legend {
                    @for line in &self.lines {
                        li { span class={ "swatch c" (line.colour) } {} (line.name) }
                    }
                }
            }
            (self.picture(&Frame::wide()))
            (self.picture(&Frame::narrow()))
        }
    }

    fn picture(&self, frame: &Frame) -> Markup {
        let class = if frame.is_wide {
            "plot wide"
        } else {
            "plot narrow"
        };
        let names: Vec<&str> = self.lines.iter().map(|line| line.name.as_str()).collect();
        let said = format!(
            "{} over {}: {}",
            self.y.label,
            self.x.label,
            names.join(", ")
        );
        html! {
            svg class=(class) viewBox={ "0 0 " (frame.width) " " (frame.height) }
                role="img" aria-label=(said) {
                (self.grid(frame))
                @for reference in &self.references {
                    (self.reference(frame, reference))
                }
                @for (line, shift) in self.lines.iter().zip(self.shifts(frame)) {
                    (self.line(frame, line, shift))
                }
                @for reference in &self.references {
                    (self.reference_name(frame, reference))
                }
                @if frame.is_wide {
                    (self.names(frame))
                }
            }
        }
    }

    fn grid(&self, frame: &Frame) -> Markup {
        let room = if frame.is_wide { 9 } else { 5 };
        let base = frame.y(0.0);
        html! {
            @for tick in self.y.scale.ticks(6) {
                @let y = px(frame.y(self.y.scale.place(tick)));
                line.grid x1=(px(frame.left)) x2=(px(frame.width - frame.right)) y1=(y) y2=(y) {}
                text.tick x=(px(frame.left - 8.0)) y=(y) dy="0.32em" text-anchor="end" {
                    ((self.y.text)(tick))
                }
            }
            line.axis x1=(px(frame.left)) x2=(px(frame.width - frame.right))
                y1=(px(base)) y2=(px(base)) {}
            @for tick in self.x.scale.ticks(room) {
                @let x = px(frame.x(self.x.scale.place(tick)));
                line.axis x1=(x) x2=(x) y1=(px(base)) y2=(px(base + 4.0)) {}
                text.tick x=(x) y=(px(base + 18.0)) text-anchor="middle" {
                    ((self.x.text)(tick))
                }
            }
            text.label x=(px(frame.x(0.5))) y=(px(frame.height - 8.0)) text-anchor="middle" {
                (self.x.label)
            }
            text.label x="4" y="14" { (self.y.label) }
        }
    }

    fn place(&self, frame: &Frame, point: [f64; 2]) -> (f64, f64) {
        let x = frame.x(self.x.scale.place(point[0]));
        (x, frame.y(self.y.scale.place(point[1])))
    }

    /// Drawn in a picture of its own, which cuts off what is above.
    fn reference(&self, frame: &Frame, reference: &Line) -> Markup {
        let (left, top) = (frame.left, frame.top);
        let (width, height) = (frame.width - left - frame.right, frame.y(0.0) - top);
        let view = format!("{left} {top} {width} {height}");
        let place = |&point: &[f64; 2]| self.unbounded_place(frame, point);
        let places: Vec<(f64, f64)> = reference.points.iter().map(place).collect();
        html! {
            svg x=(px(left)) y=(px(top)) width=(px(width)) height=(px(height)) viewBox=(view) {
                path.reference d=(path(&places)) {}
            }
        }
    }

    fn reference_name(&self, frame: &Frame, reference: &Line) -> Markup {
        let last = reference
            .points
            .last()
            .map(|&point| self.unbounded_place(frame, point));
        html! {
            @if let Some((x, y)) = last.filter(|(_, y)| *y > frame.top + 1.0) {
                text.faint x=(px(x)) y=(px(y - 6.0)) text-anchor="end" { (reference.name) }
            }
        }
    }

    fn unbounded_place(&self, frame: &Frame, point: [f64; 2]) -> (f64, f64) {
        let x = frame.x(self.x.scale.place(point[0]));
        (x, frame.y(self.y.scale.unbounded_place(point[1])))
    }

    /// How far down each line is drawn from where it is, so that none lies on another: lines of
    /// equal values are seen beside each other. In the lower half they go up.
    fn shifts(&self, frame: &Frame) -> Vec<f64> {
        let places = |line: &Line| -> Vec<(f64, f64)> {
            let places = line.points.iter().map(|&point| self.place(frame, point));
            places.collect()
        };
        let all: Vec<Vec<(f64, f64)>> = self.lines.iter().map(places).collect();
        let mut shifts: Vec<f64> = Vec::new();
        for (number, mine) in all.iter().enumerate() {
            let middle = mine.iter().map(|(_, y)| y).sum::<f64>() / mine.len().max(1) as f64;
            let step = if middle > frame.y(0.5) { -APART } else { APART };
            let is_free = |shift: &f64| {
                let mut others = all[..number].iter().zip(&shifts);
                !others.any(|(other, theirs)| lie_on_each_other((mine, *shift), (other, *theirs)))
            };
            let mut tried = (0..=number).map(|n| n as f64 * step);
            let free = tried.clone().find(is_free);
            shifts.push(free.or(tried.next_back()).unwrap_or(0.0));
        }
        shifts
    }

    fn line(&self, frame: &Frame, line: &Line, shift: f64) -> Markup {
        let place = |&point: &[f64; 2]| {
            let (x, y) = self.place(frame, point);
            (x, y + shift)
        };
        let places: Vec<(f64, f64)> = line.points.iter().map(place).collect();
        html! {
            g class={ "c" (line.colour) } {
                path.line d=(path(&places)) {}
                @if line.points.len() <= MARKED {
                    @for &point in &line.points {
                        @let (x, y) = place(&point);
                        circle.mark cx=(px(x)) cy=(px(y)) r="4" {
                            title {
                                (line.name) ": " ((self.y.text)(point[1])) " at "
                                ((self.x.text)(point[0]))
                            }
                        }
                    }
                }
            }
        }
    }

    /// Each line's name beside its end, moved down where two would lie on each other.
    fn names(&self, frame: &Frame) -> Markup {
        let ends = self.lines.iter().filter_map(|line| {
            let (_, y) = self.place(frame, *line.points.last()?);
            Some((y, line))
        });
        let mut ends: Vec<(f64, &Line)> = ends.collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let lowest = frame.height - frame.bottom;
        let places = apart(ends.iter().map(|(y, _)| *y), lowest);
        html! {
            @for (y, (_, line)) in places.iter().zip(&ends) {
                text class={ "name c" (line.colour) } x=(px(frame.width - frame.right + 10.0))
                    y=(px(*y)) dy="0.32em" { (shortened(&line.name)) }
            }
        }
    }
}

/// Whether two lines, each moved down so far, cover each other for a while and do not only cross.
fn lie_on_each_other(one: (&[(f64, f64)], f64), other: (&[(f64, f64)], f64)) -> bool {
    let is_near = |&(x, y): &(f64, f64)| {
        let height = height_at(other.0, x);
        height.is_some_and(|height| (y + one.1 - height - other.1).abs() < NEAR)
    };
    let shared: Vec<bool> = one.0.iter().map(is_near).collect();
    match shared.len() {
        1 => shared[0],
        _ => shared.windows(2).any(|pair| pair[0] && pair[1]),
    }
}

/// How high a line is at this place, if it goes there.
fn height_at(line: &[(f64, f64)], x: f64) -> Option<f64> {
    let point = line.iter().find(|(at, _)| (at - x).abs() < 0.5);
    let between = || {
        let pair = line
            .windows(2)
            .find(|pair| (pair[0].0..=pair[1].0).contains(&x))?;
        let share = (x - pair[0].0) / (pair[1].0 - pair[0].0);
        Some(pair[0].1 + share * (pair[1].1 - pair[0].1))
    };
    point.map(|(_, y)| *y).or_else(between)
}

/// Places in rising order, none nearer to the one before than a name's height, and none below the
/// lowest where there is room above it.
fn apart(places: impl Iterator<Item = f64>, lowest: f64) -> Vec<f64> {
    let mut free = f64::NEG_INFINITY;
    let next = |y: f64| {
        let place = y.max(free);
        free = place + NAME_HEIGHT;
        place
    };
    let mut places: Vec<f64> = places.map(next).collect();
    let mut most = lowest;
    for place in places.iter_mut().rev() {
        *place = place.min(most);
        most = *place - NAME_HEIGHT;
    }
    places
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME_LETTERS {
        return name.to_owned();
    }
    let begin: String = name.chars().take(NAME_LETTERS - 1).collect();
    format!("{begin}…")
}

/// The least that a sparkline's height stands for, as a share of its values.
const LEAST_RANGE: f64 = 0.2;

/// A line without axes, its last point marked, for a few values over time.
pub(super) fn sparkline(values: &[f64]) -> Markup {
    const WIDTH: f64 = 220.0;
    const HEIGHT: f64 = 44.0;
    const EDGE: f64 = 6.0;
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    // What changes little looks flat.
    let range = (high - low)
        .max(high.abs() * LEAST_RANGE)
        .max(f64::MIN_POSITIVE);
    let middle = f64::midpoint(low, high);
    let place = |(n, value): (usize, &f64)| {
        let share = n as f64 / (values.len().max(2) - 1) as f64;
        let y = HEIGHT / 2.0 - (value - middle) / range * (HEIGHT - 2.0 * EDGE);
        (EDGE + share * (WIDTH - 2.0 * EDGE), y)
    };
    let places: Vec<(f64, f64)> = values.iter().enumerate().map(place).collect();
    let points: Vec<String> = places
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    html! {
        svg.spark viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } aria-hidden="true" {
            polyline.line points=(points.join(" ")) {}
            @if let Some((x, y)) = places.last() {
                circle.mark cx=(px(*x)) cy=(px(*y)) r="4" {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(label: &str, scale: Scale) -> Axis {
        Axis {
            label: label.to_owned(),
            scale,
            text: |value| value.to_string(),
        }
    }

    #[test]
    fn a_plot_draws_every_point_and_escapes_names() {
        let plot = Plot {
            x: axis("x", Scale::Each(vec![60.0, 1514.0])),
            y: axis(
                "y",
                Scale::Linear {
                    low: 0.0,
                    high: 10.0,
                },
            ),
            lines: vec![
                Line {
                    name: "<tidegate>".to_owned(),
                    colour: 0,
                    points: vec![[60.0, 0.0], [1514.0, 10.0]],
                },
                Line {
                    name: "b".to_owned(),
                    colour: 1,
                    points: vec![],
                },
            ],
            references: Vec::new(),
        };
        let text = plot.draw().into_string();
        assert!(text.contains("&lt;tidegate&gt;") && !text.contains("<tidegate>"));
        assert_eq!(
            text.matches("<circle").count(),
            4,
            "two points, twice drawn"
        );
        assert!(!text.contains("NaN") && !text.contains("inf"));
    }

    #[test]
    fn names_do_not_lie_on_each_other() {
        let places = apart([100.0, 102.0, 300.0].into_iter(), 302.0);
        assert_eq!(places, [100.0, 115.0, 300.0]);
        let at_the_base = apart([300.0, 300.0, 300.0].into_iter(), 302.0);
        assert_eq!(at_the_base, [272.0, 287.0, 302.0]);
        assert_eq!(shortened("haproxy with a long name"), "haproxy with a l…");
    }

    #[test]
    fn j3_no_line_lies_on_another() {
        let line = |name: &str, points: &[[f64; 2]]| Line {
            name: name.to_owned(),
            colour: 0,
            points: points.to_vec(),
        };
        let (low, high) = (0.0, 1.0);
        let plot = Plot {
            x: axis(
                "x",
                Scale::Linear {
                    low: 0.0,
                    high: 4.0,
                },
            ),
            y: axis("y", Scale::Linear { low, high }),
            lines: vec![
                line("a", &[[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]]),
                line("b", &[[0.0, 1.0], [1.9, 1.0], [4.0, 0.999]]),
                line("crosses", &[[0.0, 0.2], [4.0, 1.0]]),
                line("c", &[[0.0, 0.0], [4.0, 0.0]]),
                line("d", &[[0.0, 0.0], [4.0, 0.0]]),
            ],
            references: Vec::new(),
        };
        let shifts = plot.shifts(&Frame::wide());
        assert_eq!(shifts, [0.0, APART, 0.0, 0.0, -APART]);
    }

    #[test]
    fn a_sparkline_of_equal_values_is_a_line() {
        let text = sparkline(&[3.0, 3.0, 3.0]).into_string();
        assert!(text.contains("6.0,22.0 110.0,22.0 214.0,22.0"), "{text}");
        assert!(!sparkline(&[]).into_string().contains("NaN"));
        assert!(!sparkline(&[0.0]).into_string().contains("NaN"));
    }
}
