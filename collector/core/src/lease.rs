//! Leases: how many hosts may act on the same kind of finding at once.
//!
//! A fault that many hosts share is not healed by each of them restarting things. Until the cause
//! is known, at most a share of the fleet acts on one kind of finding within a window; who wants
//! to act asks for a lease first, which is short. An agent without a collector falls back on its
//! own, stricter, budget. No I/O and no clock: the collector writes [`Leases::grants`] when they
//! change and gives them back to [`Leases::restored`].

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_core::finding::FindingKind;
use mainstay_core::id::HostId;
use mainstay_core::time::Now;

/// How much of a fleet may act on one kind of finding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LeaseLimits {
    /// Share of the hosts, 0 to 1 (default 0.1). At least one host may always act.
    pub share: f64,
    /// Within this (default 10 min).
    pub window: Duration,
    /// How long a lease may be used (default 30 s): the agent begins within it or asks again.
    pub lease: Duration,
}

impl Default for LeaseLimits {
    fn default() -> Self {
        Self { share: 0.1, window: Duration::from_secs(600), lease: Duration::from_secs(30) }
    }
}

impl LeaseLimits {
    /// How many of `hosts` may act within the window: the share, rounded down, at least one.
    #[must_use]
    pub fn hosts_max(&self, hosts: usize) -> usize {
        (1..=hosts).rev().find(|n| ratio(*n) <= self.share.clamp(0.0, 1.0) * ratio(hosts)).unwrap_or(1)
    }
}

fn ratio(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseAnswer {
    /// The host may act, if it begins within `expires_in`.
    Granted {
        /// How long the lease may be used.
        expires_in: Duration,
    },
    /// It may not.
    Denied {
        /// When asking again can have another answer.
        retry_after: Duration,
        /// Why, with both values.
        text: String,
    },
}

/// Who may act on what, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leases {
    granted: BTreeMap<FindingKind, BTreeMap<HostId, Now>>,
    /// None is granted for so long from then on.
    closed: Option<(Now, Duration)>,
}

impl Leases {
    /// The grants as they were written. Those whose time lies ahead (another boot of the
    /// collector's machine) count from now: the longer wait.
    pub fn restored(grants: impl IntoIterator<Item = (FindingKind, HostId, Now)>, now: Now) -> Self {
        let mut leases = Self::default();
        for (kind, host, at) in grants {
            let at = if at.boot_ns > now.boot_ns { now } else { at };
            leases.granted.entry(kind).or_default().insert(host, at);
        }
        leases
    }

    /// The same, with none granted for `length`: grants may be in use that are not known here.
    #[must_use]
    pub fn closed_for(self, length: Duration, now: Now) -> Self {
        Self { closed: Some((now, length)), ..self }
    }

    /// Every grant that still counts: kind, host, when.
    pub fn grants(&self) -> impl Iterator<Item = (FindingKind, HostId, Now)> {
        self.granted.iter().flat_map(|(kind, hosts)| hosts.iter().map(|(host, at)| (*kind, *host, *at)))
    }

    /// Answers the request of `host` to act on `kind`, in a fleet of `hosts`. A host that counts
    /// already is granted again, since it makes no more hosts of it.
    pub fn request(
        &mut self,
        host: HostId,
        kind: FindingKind,
        hosts: usize,
        limits: &LeaseLimits,
        now: Now,
    ) -> LeaseAnswer {
        let closed = self.closed.map_or(Duration::ZERO, |(since, length)| length.saturating_sub(now.since(since)));
        if !closed.is_zero() {
            let seconds = closed.as_secs() + 1;
            return LeaseAnswer::Denied {
                retry_after: Duration::from_secs(seconds),
                text: format!(
                    "the collector was set back to a backup: who acts on {kind} since before is not known for {seconds} s more"
                ),
            };
        }
        let held = self.granted.entry(kind).or_default();
        held.retain(|_, at| now.since(*at) < limits.window);
        let hosts_max = limits.hosts_max(hosts);
        if !held.contains_key(&host) && held.len() >= hosts_max {
            let oldest = held.values().min().copied().unwrap_or(now);
            return LeaseAnswer::Denied {
                retry_after: limits.window.saturating_sub(now.since(oldest)).max(Duration::from_secs(1)),
                text: format!(
                    "{} of at most {hosts_max} hosts ({hosts} in all) act on {kind} within {} s",
                    held.len(),
                    limits.window.as_secs()
                ),
            };
        }
        held.insert(host, now);
        LeaseAnswer::Granted { expires_in: limits.lease }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: FindingKind = FindingKind::ServiceFailed;

    fn at(seconds: u64) -> Now {
        Now::default().plus(Duration::from_secs(1_000 + seconds))
    }

    fn host(n: u8) -> HostId {
        HostId([n; 16])
    }

    fn granted(leases: &mut Leases, n: u8, hosts: usize, seconds: u64) -> bool {
        let answer = leases.request(host(n), KIND, hosts, &LeaseLimits::default(), at(seconds));
        matches!(answer, LeaseAnswer::Granted { .. })
    }

    #[test]
    fn a_tenth_of_the_hosts_may_act_and_at_least_one() {
        let limits = LeaseLimits::default();
        for (hosts, most) in [(0, 1), (1, 1), (3, 1), (19, 1), (20, 2), (30, 3), (200, 20), (1_000, 100)] {
            assert_eq!(limits.hosts_max(hosts), most, "{hosts} hosts");
        }
        assert_eq!(LeaseLimits { share: f64::NAN, ..limits }.hosts_max(50), 1);
        assert_eq!(LeaseLimits { share: 7.0, ..limits }.hosts_max(50), 50);
    }

    #[test]
    fn denies_the_next_host_until_the_window_has_passed() {
        let mut leases = Leases::default();
        assert!(granted(&mut leases, 1, 20, 0));
        assert!(granted(&mut leases, 2, 20, 100));
        assert!(granted(&mut leases, 1, 20, 110), "the same host makes no more hosts");
        let answer = leases.request(host(3), KIND, 20, &LeaseLimits::default(), at(200));
        let LeaseAnswer::Denied { retry_after, text } = answer else { panic!("{answer:?}") };
        assert_eq!(retry_after, Duration::from_secs(500), "host 2 counts until 700");
        assert_eq!(text, "2 of at most 2 hosts (20 in all) act on service.failed within 600 s");
        assert!(granted(&mut leases, 3, 20, 700));
        assert!(!granted(&mut leases, 2, 20, 701), "host 1 counts from its last grant");
    }

    #[test]
    fn none_is_granted_while_older_grants_may_be_in_use() {
        let mut leases = Leases::default().closed_for(Duration::from_secs(600), at(0));
        let answer = leases.request(host(1), KIND, 20, &LeaseLimits::default(), at(590));
        let LeaseAnswer::Denied { retry_after, text } = answer else { panic!("{answer:?}") };
        assert_eq!(retry_after, Duration::from_secs(11));
        assert!(text.contains("set back to a backup") && text.contains("11 s"), "{text}");
        assert!(granted(&mut leases, 1, 20, 600));
    }

    #[test]
    fn kinds_do_not_count_against_each_other() {
        let mut leases = Leases::default();
        assert!(granted(&mut leases, 1, 3, 0));
        let other = leases.request(host(2), FindingKind::DiskFull, 3, &LeaseLimits::default(), at(0));
        assert!(matches!(other, LeaseAnswer::Granted { .. }));
        assert!(!granted(&mut leases, 2, 3, 1), "nor does it help that the first has not begun");
    }

    #[test]
    fn grants_survive_a_restart_and_count_longer_after_a_reboot() {
        let mut leases = Leases::default();
        assert!(granted(&mut leases, 1, 3, 0));
        let mut same_boot = Leases::restored(leases.grants(), at(5));
        assert!(!granted(&mut same_boot, 2, 3, 599) && granted(&mut same_boot, 2, 3, 600));
        let rebooted = Now { boot_ns: 1, wall_ms: 0 };
        let mut leases = Leases::restored(leases.grants(), rebooted);
        let ask = |leases: &mut Leases, seconds| {
            leases.request(host(2), KIND, 3, &LeaseLimits::default(), rebooted.plus(Duration::from_secs(seconds)))
        };
        assert!(matches!(ask(&mut leases, 599), LeaseAnswer::Denied { .. }));
        assert!(matches!(ask(&mut leases, 600), LeaseAnswer::Granted { .. }));
    }
}
