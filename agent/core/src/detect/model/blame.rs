//! Which metrics are to blame, most suspect first.

use super::residual::{Deviation, Parts, Residual, UNUSUAL};

/// Most metrics that are named. Trouble of a whole host shows in a few dozen.
const BLAMED_MAX: usize = 32;

/// One metric that is to blame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Blame {
    /// Which, by index.
    pub metric: usize,
    /// How far off it is, in its own scale, held against its own extremes: what ranks it.
    pub distance: f64,
    /// What was seen.
    pub value: f64,
    /// What was expected.
    pub expected: f64,
    /// The usual distance from it.
    pub scale: f64,
    /// The share of the samples seen that were at least as far off.
    pub share: f64,
    /// From so far off on, above and below, it is unusual.
    pub limit: f64,
    /// What of the expected level comes from the season and the trend; `None` for a series on its own.
    pub parts: Option<Parts>,
    /// For how many seconds it has been unusual without a break.
    pub seconds: f64,
}

/// Ranks the metrics that are unusual at this step.
pub(super) fn rank(deviations: &[Deviation], values: &[Option<f64>], residuals: &[Residual], at: f64) -> Vec<Blame> {
    let unusual = deviations.iter().zip(values).enumerate().filter(|(_, (off, _))| off.beyond_habit >= UNUSUAL);
    let mut ranked: Vec<Blame> = unusual
        .filter_map(|(metric, (off, value))| {
            let (value, residual) = ((*value)?, residuals.get(metric)?);
            let Deviation { beyond_habit: distance, expected, scale, .. } = *off;
            let raw = (value - expected).abs() / scale;
            let (share, seconds) = (residual.share_beyond(raw), residual.unusual_seconds());
            let (limit, parts) = (residual.limit(scale), Some(residual.parts(at)));
            Some(Blame { metric, distance, value, expected, scale, share, limit, parts, seconds })
        })
        .collect();
    ranked.sort_by(|a, b| b.distance.total_cmp(&a.distance));
    ranked.truncate(BLAMED_MAX);
    ranked
}
