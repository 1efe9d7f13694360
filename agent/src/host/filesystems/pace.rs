//! Which filesystems need not be asked every second how full they are.
//!
//! One that is far from full and hardly moves is calm: nothing is missed where it is asked every few seconds. What moves, or
//! has little left, is asked at every sample.

use std::time::Duration;

use mainstay_core::sample::FilesystemUsage;
use mainstay_core::time::Now;

/// How often calm filesystems are asked, and how much too early that may be: samples come a few milliseconds early or late.
const CALM_EVERY: Duration = Duration::from_secs(5);
const EARLY: Duration = Duration::from_millis(500);

/// What is used to at least so many quarters is not calm.
const QUARTERS_USED: u64 = 3;

/// Nor is what has moved by more than this part of all from one answer to the next.
const PART_MOVED: u64 = 200;

/// Whether calm filesystems are to be asked too, that were asked at `last`.
pub(super) fn is_due(last: Option<Now>, now: Now) -> bool {
    last.is_none_or(|last| now.since(last) + EARLY >= CALM_EVERY)
}

/// Whether a filesystem that has given these answers one after the other is calm.
pub(super) fn is_calm(before: &FilesystemUsage, now: &FilesystemUsage) -> bool {
    let space = |usage: &FilesystemUsage| {
        let used = usage.size_bytes.saturating_sub(usage.free_bytes);
        (used, used.saturating_add(usage.avail_bytes))
    };
    let inodes = |usage: &FilesystemUsage| (usage.files.saturating_sub(usage.files_free), usage.files);
    rests(space(before), space(now)) && (now.files == 0 || rests(inodes(before), inodes(now)))
}

/// The same of one thing: how much of it is used of how much.
fn rests((used_before, _): (u64, u64), (used, all): (u64, u64)) -> bool {
    let is_roomy = used / QUARTERS_USED < all / 4;
    is_roomy && used.abs_diff(used_before) <= all / PART_MOVED
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(used: u64, files_used: u64) -> FilesystemUsage {
        let (size_bytes, files) = (100_000, 10_000);
        let free_bytes = size_bytes - used;
        FilesystemUsage { size_bytes, free_bytes, avail_bytes: free_bytes, files, files_free: files - files_used }
    }

    #[test]
    fn what_is_far_from_full_and_hardly_moves_is_calm() {
        for (before, now, calm) in [
            ((50_000, 100), (50_000, 100), true),
            ((50_000, 100), (50_500, 150), true),
            ((50_500, 150), (50_000, 100), true),
            ((50_000, 100), (50_501, 100), false),
            ((50_501, 100), (50_000, 100), false),
            ((50_000, 100), (50_000, 151), false),
            ((74_900, 100), (74_900, 100), true),
            ((75_000, 100), (75_000, 100), false),
            ((50_000, 7_500), (50_000, 7_500), false),
        ] {
            let (before, now) = (usage(before.0, before.1), usage(now.0, now.1));
            assert_eq!(is_calm(&before, &now), calm, "{before:?} {now:?}");
        }
    }

    #[test]
    fn what_is_reserved_for_root_is_no_room_and_inodes_that_are_made_as_needed_do_not_count() {
        let reserved = FilesystemUsage { avail_bytes: 10_000, ..usage(60_000, 0) };
        assert!(is_calm(&usage(60_000, 0), &usage(60_000, 0)) && !is_calm(&reserved, &reserved));
        let without = FilesystemUsage { files: 0, files_free: 0, ..usage(50_000, 0) };
        assert!(is_calm(&without, &without));
        let nothing = FilesystemUsage { size_bytes: 0, free_bytes: 0, avail_bytes: 0, files: 0, files_free: 0 };
        assert!(!is_calm(&nothing, &nothing));
    }

    #[test]
    fn calm_ones_are_asked_every_five_seconds_though_samples_come_early_or_late() {
        let at = |ms: u64| Now { boot_ns: ms * 1_000_000, wall_ms: 0 };
        assert!(is_due(None, at(0)) && !is_due(Some(at(0)), at(4_010)));
        assert!(is_due(Some(at(0)), at(4_990)) && is_due(Some(at(0)), at(5_010)));
    }
}
