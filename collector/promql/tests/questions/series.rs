//! The series that both are asked about.
//!
//! Every sample's time ends in 3 (milliseconds) and every moment that is asked for in 7, so that no
//! sample lies on the edge of a window: there Prometheus 2 and 3 differ.

use mainstay_promql::{Labels, STALE};

use super::rng::Rng;

/// When the series begin.
pub(crate) const BEGIN_MS: i64 = 1_700_000_000_003;
/// Between two samples.
pub(crate) const EVERY_MS: i64 = 15_000;
/// Samples of a series: 100 minutes, less than what Prometheus' head takes before it compacts.
pub(crate) const SAMPLES: i64 = 400;

/// A series with its samples.
pub(crate) struct Series {
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) samples: Vec<(i64, f64)>,
}

impl Series {
    pub(crate) fn labels(&self) -> Labels {
        Labels::of(self.labels.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())))
    }
}

/// Writes series down.
struct Pen {
    rng: Rng,
    all: Vec<Series>,
}

impl Pen {
    /// `name label=value …`, and the value of each sample; `None` is no sample.
    fn write(&mut self, text: &str, mut value: impl FnMut(&mut Rng, i64) -> Option<f64>) {
        let mut words = text.split_whitespace();
        let name = ("__name__".to_owned(), words.next().unwrap_or_default().to_owned());
        let rest =
            words.filter_map(|word| word.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut labels: Vec<_> = [name].into_iter().chain(rest).collect();
        labels.sort();
        let mut samples = Vec::new();
        for n in 0..SAMPLES {
            // Scrapes are never quite on time: up to 200 ms late.
            let late = i64::try_from(self.rng.below(20)).unwrap_or(0) * 10;
            if let Some(value) = value(&mut self.rng, n) {
                samples.push((BEGIN_MS + n * EVERY_MS + late, value));
            }
        }
        self.all.push(Series { labels, samples });
    }
}

/// All series, in the order of their labels, as a database gives them.
pub(crate) fn all() -> Vec<Series> {
    let mut pen = Pen { rng: Rng::new(5), all: Vec::new() };
    let stale = Some(f64::from_bits(STALE));
    for (job, instance) in [("api", "a"), ("api", "b"), ("web", "a"), ("web", "c")] {
        for code in ["200", "404", "500"] {
            // A counter that begins anew now and then, never near zero for long.
            let mut count = 1e6;
            pen.write(&format!("requests_total job={job} instance={instance} code={code}"), |rng, n| {
                count += rng.below(50) as f64;
                if n % 97 == 96 && rng.chance(60) {
                    count = 5e5;
                }
                Some(count)
            });
        }
        let mut level = 10.0;
        pen.write(&format!("load job={job} instance={instance}"), |rng, _| {
            level += rng.share() - 0.5;
            Some(level)
        });
        pen.write(&format!("memory_bytes job={job} instance={instance}"), |rng, _| {
            Some(1e9 + rng.below(1 << 30) as f64)
        });
        pen.write(&format!("temperature job={job} instance={instance}"), |rng, _| Some(rng.below(4) as f64 - 1.0));
        pen.write(&format!("seen_seconds job={job} instance={instance}"), |rng, n| {
            Some(1.7e9 + n as f64 * 15.0 + rng.below(40_000_000) as f64)
        });
        pen.write(&format!("info job={job} instance={instance} version=1.{}", instance.len()), |_, n| {
            if n < 200 {
                Some(1.0)
            } else if n == 200 {
                stale
            } else {
                None
            }
        });
        pen.write(&format!("info job={job} instance={instance} version=2.0"), |_, n| (n > 200).then_some(1.0));
        // Comes and goes: sometimes with a stale marker, sometimes without a word.
        pen.write(&format!("flapping job={job} instance={instance}"), |rng, n| match n % 60 {
            0..=29 => Some(n as f64 + rng.share()),
            30 if instance == "a" => stale,
            _ => None,
        });
        pen.write(&format!("sparse job={job} instance={instance}"), |rng, n| {
            (n % 19 == 3).then(|| rng.share() * 100.0)
        });
        // Far from zero: how a rate is extrapolated to zero has changed between Prometheus 2 and 3.
        let mut counts = [1e5; 6];
        for (at, le) in ["0.1", "0.5", "1", "2.5", "10", "+Inf"].into_iter().enumerate() {
            pen.write(&format!("latency_seconds_bucket job={job} instance={instance} le={le}"), |rng, _| {
                counts[at] += (at as f64 + 1.0) * 3.0 + rng.below(2) as f64;
                Some(counts[at])
            });
        }
    }
    // Metrics that differ in nothing but the name.
    for (n, name) in ["twin_a", "twin_b"].into_iter().enumerate() {
        pen.write(&format!("{name} instance=a"), |rng, at| ((at / 50) % 2 == n as i64).then(|| rng.share()));
    }
    for (kind, value) in [
        ("nan", f64::NAN),
        ("inf", f64::INFINITY),
        ("minus", f64::NEG_INFINITY),
        ("max", f64::MAX),
        ("zero", 0.0),
        ("tiny", 5e-324),
    ] {
        pen.write(&format!("odd kind={kind} instance=a"), |rng, n| Some(if n % 7 == 3 { rng.share() } else { value }));
    }
    pen.write("constant instance=a", |_, _| Some(3.0));
    pen.write("single instance=a", |_, n| (n == 200).then_some(42.0));
    pen.all.sort_by_key(Series::labels);
    pen.all
}
