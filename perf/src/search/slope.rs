//! A slope that a few wild values do not bend: Theil–Sen, with the confidence interval that
//! Kendall's statistic gives it (Sen 1968).

use crate::report::median;

/// A slope and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    /// The median of the slopes between any two points.
    pub slope: f64,
    /// It lies between these with 95 % confidence.
    pub interval: [f64; 2],
}

/// The standard normal distribution's 97.5th percentile.
const CONFIDENCE: f64 = 1.96;

impl Slope {
    /// Fits a line through points whose first numbers differ; none for fewer than three.
    #[must_use]
    pub fn of(points: &[[f64; 2]]) -> Option<Self> {
        if points.len() < 3 {
            return None;
        }
        let mut slopes = Vec::with_capacity(points.len() * (points.len() - 1) / 2);
        for (n, a) in points.iter().enumerate() {
            slopes.extend(
                points[n + 1..]
                    .iter()
                    .map(|b| (b[1] - a[1]) / (b[0] - a[0])),
            );
        }
        slopes.sort_by(f64::total_cmp);
        let n = points.len() as f64;
        let deviation = (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
        let (pairs, reach) = (slopes.len() as f64, CONFIDENCE * deviation);
        let rank = |rank: f64| slopes[rank.clamp(0.0, pairs - 1.0) as usize];
        Some(Self {
            slope: median(&slopes),
            interval: [
                rank(((pairs - reach) / 2.0).floor()),
                rank(((pairs + reach) / 2.0).ceil()),
            ],
        })
    }

    /// Whether the values rise, with 95 % confidence.
    #[must_use]
    pub fn is_rising(&self) -> bool {
        self.interval[0] > 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulated::Random;
    use super::*;

    fn line(slope: f64, noise: f64, count: u32) -> Vec<[f64; 2]> {
        let mut random = Random::new(7);
        let point = |n| {
            [
                f64::from(n),
                slope * f64::from(n) + noise * (random.share() - 0.5),
            ]
        };
        (0..count).map(point).collect()
    }

    #[test]
    fn a_line_is_found_again() {
        let slope = Slope::of(&line(2.5, 0.0, 20)).unwrap();
        assert!((slope.slope - 2.5).abs() < 1e-9 && slope.is_rising());
    }

    #[test]
    fn wild_values_do_not_bend_it() {
        let mut points = line(0.1, 0.01, 40);
        for point in points.iter_mut().step_by(5) {
            point[1] += 1e6;
        }
        let slope = Slope::of(&points).unwrap();
        assert!((slope.slope - 0.1).abs() < 0.05, "{slope:?}");
    }

    #[test]
    fn noise_alone_does_not_rise() {
        let slope = Slope::of(&line(0.0, 1.0, 60)).unwrap();
        assert!(!slope.is_rising() && slope.interval[1] > 0.0, "{slope:?}");
        assert!(Slope::of(&line(0.05, 1.0, 60)).unwrap().is_rising());
    }

    #[test]
    fn two_points_say_nothing() {
        assert_eq!(Slope::of(&[[0.0, 0.0], [1.0, 1.0]]), None);
    }
}
