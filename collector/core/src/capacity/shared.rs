//! Hosts added up hour by hour: what they ask for together, at the peak that they share.

use super::Hourly;

/// The sum of an hour is known if so large a share of the hosts that were there then was seen in it.
const SEEN_MIN: f64 = 0.8;

/// The sum of some hosts. A host counts from its first hour to its last: before and after it was not
/// there, and the others had its work. An hour that is missing in between is taken as the mean of
/// the others, and where many are missing the sum is unknown.
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub fn shared(hosts: &[Hourly]) -> Hourly {
    let hosts: Vec<Hourly> = hosts.iter().map(Hourly::trimmed).filter(|host| !host.values.is_empty()).collect();
    let Some(first) = hosts.iter().map(|host| host.first).min() else { return Hourly::default() };
    let end = hosts.iter().map(Hourly::end).max().unwrap_or(first);
    let sum = |hour: i64| {
        let there = hosts.iter().filter(|host| (host.first..host.end()).contains(&hour));
        let (mut sum, mut seen, mut count) = (0.0, 0.0, 0.0);
        for host in there {
            count += 1.0;
            if let Some(value) = usize::try_from(hour - host.first).ok().and_then(|at| host.values[at]) {
                sum += value;
                seen += 1.0;
            }
        }
        (count > 0.0 && seen >= SEEN_MIN * count).then(|| sum * count / seen)
    };
    Hourly { first, values: (first..end).map(sum).collect() }
}
