//! The name of a backup is the moment when it was made, in UTC, so that names sort as backups do.

/// The name for a moment, such as `20270115T080000.000Z`.
#[must_use]
pub fn of(wall_ms: i64) -> String {
    let (days, ms) = (wall_ms.div_euclid(86_400_000), wall_ms.rem_euclid(86_400_000));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{:03}Z", ms % 1_000)
}

/// Whether this is the name of a backup.
#[must_use]
pub fn is_one(name: &str) -> bool {
    let shape = b"ddddddddTdddddd.dddZ";
    name.len() == shape.len()
        && name.bytes().zip(shape).all(|(byte, form)| if *form == b'd' { byte.is_ascii_digit() } else { byte == *form })
}

/// The date of a day counted since 1970, in the calendar that counts years from March (Hinnant, `civil_from_days`).
fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_the_names_of_the_calendar() {
        for (ms, name) in [
            (0, "19700101T000000.000Z"),
            (951_782_400_000, "20000229T000000.000Z"),
            (1_800_000_000_123, "20270115T080000.123Z"),
            (4_107_542_399_999, "21000228T235959.999Z"),
        ] {
            assert_eq!(of(ms), name);
            assert!(is_one(name));
        }
        for other in ["", "lost+found", ".20270115T080000.123Z.making", "20270115T080000.12aZ", "20270115T080000.123"] {
            assert!(!is_one(other), "{other}");
        }
    }
}
