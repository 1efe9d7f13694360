use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_core::series::{Point, SeriesKey, Summary};
use mainstay_core::time::Now;
use proptest::prelude::*;

use super::*;
use crate::convert::{Form, SummaryReader, SummaryWriter};

/// Values as hosts have them, and as nobody should.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        (0u32..2_000).prop_map(f64::from),
        (-500i32..500).prop_map(|hundredths| f64::from(hundredths) / 100.0),
        any::<u32>().prop_map(|micros| f64::from(micros) / 1e6),
        (0u32..100_000, prop::sample::select(vec![512.0, 1024.0, 4096.0])).prop_map(|(n, unit)| f64::from(n) * unit),
        prop::sample::select(vec![0.0, -0.0, f64::NAN, f64::INFINITY, 1e300, 9_007_199_254_740_992.0, 1.0 / 3.0]),
        any::<u64>().prop_map(f64::from_bits),
    ]
}

fn gauge(last: f64, others: &[f64]) -> Point {
    let all = || std::iter::once(&last).chain(others);
    let mean = all().sum::<f64>() / (others.len() + 1) as f64;
    let (min, max) = (all().fold(last, |a, b| a.min(*b)), all().fold(last, |a, b| a.max(*b)));
    Point::Gauge { last, min, max, mean }
}

fn point() -> impl Strategy<Value = Point> {
    prop_oneof![
        value().prop_map(Point::Counter),
        (value(), prop::collection::vec(value(), 9)).prop_map(|(last, others)| gauge(last, &others)),
        value().prop_map(|value| gauge(value, &[])),
        (value(), value(), value(), value()).prop_map(|(last, min, max, mean)| Point::Gauge { last, min, max, mean }),
    ]
}

/// Few series, so that they come, stay, change their kind and go.
fn summary() -> impl Strategy<Value = Summary> {
    let points = prop::collection::btree_map(0u8..24, point(), 0..24);
    (any::<[i64; 2]>(), prop_oneof![Just(10u32), any::<u32>()], any::<u32>(), points).prop_map(
        |([boot, wall_ms], samples, window_ms, points)| {
            let key = |n: u8| Arc::new(SeriesKey::new("x", &[("n", &format!("{n:02}"))]));
            let at = Now { boot_ns: boot.cast_unsigned(), wall_ms };
            let points = points.into_iter().map(|(n, point)| (key(n), point)).collect();
            Summary { at, window_ms, samples, points }
        },
    )
}

fn bits(summary: &Summary) -> Vec<(String, Vec<u64>)> {
    let of = |point: &Point| match *point {
        Point::Counter(value) => vec![value.to_bits()],
        Point::Gauge { last, min, max, mean } => [last, min, max, mean].map(f64::to_bits).to_vec(),
    };
    summary.points.iter().map(|(key, point)| (key.to_string(), of(point))).collect()
}

fn sent(writer: &mut SummaryWriter, reader: &mut SummaryReader, summary: &Summary) -> Vec<u8> {
    let mut define = Vec::new();
    let wire = writer.write(summary, &mut define);
    define.into_iter().for_each(|def| reader.definitions.define(def, Arc::new).unwrap());
    wire.columns
}

proptest! {
    // Each case is a session of up to eight summaries of twenty series.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn summaries_come_back_bit_by_bit(
        summaries in prop::collection::vec(summary(), 1..8),
        form in prop::sample::select(vec![Form::Columns, Form::Units, Form::Coded]),
    ) {
        let (mut writer, mut reader) = (SummaryWriter::new(form), SummaryReader::default());
        for summary in summaries {
            let columns = sent(&mut writer, &mut reader, &summary);
            let read = reader.read(v1::Summary { columns, ..v1::Summary::default() }).unwrap();
            prop_assert_eq!(bits(&read), bits(&summary));
            let head = |s: &Summary| (s.at, s.window_ms, s.samples);
            prop_assert_eq!(head(&read), head(&summary));
        }
    }

    #[test]
    fn bytes_that_were_cut_or_changed_are_an_error_or_another_summary(
        summaries in prop::collection::vec(summary(), 2..4), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        form in prop::sample::select(vec![Form::Units, Form::Coded]),
    ) {
        let (mut writer, mut reader) = (SummaryWriter::new(form), SummaryReader::default());
        for summary in summaries {
            let columns = sent(&mut writer, &mut reader, &summary);
            let mut changed = columns.clone();
            let place = at.index(columns.len());
            changed[place] = byte;
            let defined = reader.definitions.len();
            for bytes in [&changed[..], &columns[..place]] {
                if let Ok(read) = reader.clone().columns_of(bytes) {
                    prop_assert!(read.points.len() <= defined && read.points.is_sorted_by(|a, b| a.0 < b.0));
                }
            }
            prop_assert!(reader.columns_of(&columns).is_ok());
        }
    }

    #[test]
    fn any_bytes_are_an_error_or_a_summary(
        bytes in prop::collection::vec(any::<u8>(), 1..200), first in prop::sample::select(vec![0, 8, 9, 0x80]),
        before in summary(), form in prop::sample::select(vec![Form::Units, Form::Coded]),
    ) {
        let (mut writer, mut reader) = (SummaryWriter::new(form), SummaryReader::default());
        let columns = sent(&mut writer, &mut reader, &before);
        reader.columns_of(&columns).unwrap();
        let bytes = [&[first], &bytes[..]].concat();
        if let Ok(read) = reader.columns_of(&bytes) {
            prop_assert!(read.points.len() <= reader.definitions.len());
        }
    }
}

impl SummaryReader {
    fn columns_of(&mut self, columns: &[u8]) -> Result<Summary, ConvertError> {
        self.read(v1::Summary { columns: columns.to_vec(), ..v1::Summary::default() })
    }
}

/// What a summary of these values, ten seconds after the one before, takes.
fn summary_of(second: u64, points: &BTreeMap<Arc<SeriesKey>, Point>) -> Summary {
    let at = Now { boot_ns: second * 1_000_000_000, wall_ms: i64::try_from(second).unwrap() * 1_000 };
    let points = points.iter().map(|(key, point)| (Arc::clone(key), *point)).collect();
    Summary { at, window_ms: 10_000, samples: 10, points }
}

#[test]
fn what_does_not_change_costs_a_bit_and_steady_counters_a_byte() {
    let (mut writer, mut reader) = (SummaryWriter::new(Form::Columns), SummaryReader::default());
    let key = |name: &str, n: u32| Arc::new(SeriesKey::new(name, &[("n", &format!("{n:03}"))]));
    let mut points: BTreeMap<_, _> = (0..800).map(|n| (key("still", n), gauge(f64::from(n), &[]))).collect();
    let mut bytes = Vec::new();
    for round in 0..4u32 {
        points.extend((0..100).map(|n| (key("steady_total", n), Point::Counter(f64::from(round * (n * 977 + 1))))));
        bytes.push(sent(&mut writer, &mut reader, &summary_of(u64::from(round) * 10, &points)).len());
    }
    // A bitmap of 900 bits, a byte for each counter, and a head.
    assert!(bytes[3] <= 113 + 100 + 12, "{bytes:?}");
}

#[test]
fn memory_is_written_in_pages_to_a_reader_that_knows_them() {
    let taken = [Form::Columns, Form::Units].map(|form| {
        let (mut writer, mut reader) = (SummaryWriter::new(form), SummaryReader::default());
        let key = |n: u32| Arc::new(SeriesKey::new("memory_bytes", &[("n", &format!("{n:03}"))]));
        let pages = |n: u32, round: u32| f64::from(1_000 + n + round * (n % 7 + 1)) * 4096.0;
        (0..4)
            .map(|round| {
                let points = (0..100).map(|n| (key(n), gauge(pages(n, round), &[pages(n, round + 1)]))).collect();
                let summary = Summary { samples: 2, ..summary_of(u64::from(round) * 10, &points) };
                let columns = sent(&mut writer, &mut reader, &summary);
                assert_eq!(bits(&reader.columns_of(&columns).unwrap()), bits(&summary));
                columns.len()
            })
            .last()
            .unwrap()
    });
    // Three bytes become one, in three of the four rows of a gauge that rises.
    assert!(taken[1] + 500 < taken[0], "{taken:?}");
}

#[test]
fn series_that_come_and_go_take_no_more_numbers_than_are_in_use_and_some() {
    for form in [Form::Columns, Form::Units, Form::Coded] {
        come_and_go(form);
    }
}

fn come_and_go(form: Form) {
    let (mut writer, mut reader) = (SummaryWriter::new(form), SummaryReader::default());
    let key = |name: &str, n: u64| Arc::new(SeriesKey::new(name, &[("n", &format!("{n:06}"))]));
    let staying: BTreeMap<_, _> = (0..20).map(|n| (key("stays", n), gauge(1.0, &[]))).collect();
    let summary = |round: u64| {
        let mut points = staying.clone();
        points.extend((0..30).map(|n| (key("goes", round * 30 + n), Point::Counter(1.0))));
        // One that is there now and then.
        points.extend(round.is_multiple_of(40).then(|| (key("comes back", 0), Point::Counter(1.0))));
        summary_of(round * 10, &points)
    };
    // Two in a message, whose definitions are read first.
    for message in 0..200 {
        let mut define = Vec::new();
        writer.begin_message();
        let summaries = [summary(message * 2), summary(message * 2 + 1)];
        let columns = summaries.each_ref().map(|summary| writer.write(summary, &mut define).columns);
        define.into_iter().for_each(|def| reader.definitions.define(def, Arc::new).unwrap());
        for (summary, columns) in summaries.iter().zip(columns) {
            assert_eq!(bits(&reader.columns_of(&columns).unwrap()), bits(summary), "message {message}");
        }
        assert!(reader.definitions.len() <= 51 + 512 + 60, "{} in message {message}", reader.definitions.len());
    }
}

#[test]
fn a_lying_message_is_refused_with_the_place() {
    let (mut writer, mut reader) = (SummaryWriter::new(Form::Columns), SummaryReader::default());
    let points = BTreeMap::from([(Arc::new(SeriesKey::new("x", &[])), Point::Counter(1.0))]);
    let columns = sent(&mut writer, &mut reader, &summary_of(10, &points));
    let refusal = |columns: &[u8]| reader.clone().columns_of(columns).unwrap_err().to_string();
    let unknown = SummaryReader::default().columns_of(&columns).unwrap_err().to_string();
    assert!(unknown.contains("columns.inserted") || unknown.contains("inserted"), "{unknown}");
    for flags in [0x80, 8 | 2, 8 | 4] {
        assert!(refusal(&[flags]).contains("flags"), "{}", refusal(&[flags]));
    }
    let mut longer = columns.clone();
    longer.push(0);
    assert!(refusal(&longer).contains("1 bytes follow"), "{}", refusal(&longer));
    assert!(refusal(&columns[..columns.len() - 1]).contains("the bytes end in it"));
}

#[test]
fn a_lying_coded_message_is_refused_with_the_place() {
    let (mut writer, mut reader) = (SummaryWriter::new(Form::Coded), SummaryReader::default());
    let key = |n: u32| Arc::new(SeriesKey::new("x_total", &[("n", &format!("{n:02}"))]));
    let summary = |second: u64| {
        let value = |n: u32| f64::from(n * 40_503 % 977) * second as f64 * second as f64;
        summary_of(second, &(0..20).map(|n| (key(n), Point::Counter(value(n)))).collect())
    };
    let first = sent(&mut writer, &mut reader, &summary(10));
    reader.columns_of(&first).unwrap();
    let columns = sent(&mut writer, &mut reader, &summary(20));
    let refusal = |columns: &[u8]| reader.clone().columns_of(columns).unwrap_err().to_string();
    let longer = [&columns[..], &[0, 0]].concat();
    assert!(refusal(&longer).contains("2 bytes follow"), "{}", refusal(&longer));
    let shorter = &columns[..columns.len() / 2];
    assert!(refusal(shorter).contains("the bytes end in it"), "{}", refusal(shorter));
    assert!(reader.columns_of(&columns).is_ok());
}

#[test]
fn series_that_move_alike_cost_little_more_than_one() {
    let taken = |count: u32| {
        let (mut writer, mut reader) = (SummaryWriter::new(Form::Coded), SummaryReader::default());
        let mut seed = 1u64;
        let mut value = 0u64;
        let mut bytes = Vec::new();
        for round in 0..40u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            value += seed >> 44;
            let points = (0..count)
                .map(|n| (Arc::new(SeriesKey::new("x_total", &[("n", &n.to_string())])), Point::Counter(value as f64)))
                .collect();
            let summary = summary_of(round * 10, &points);
            let columns = sent(&mut writer, &mut reader, &summary);
            assert_eq!(bits(&reader.columns_of(&columns).unwrap()), bits(&summary));
            bytes.push(columns.len());
        }
        bytes[20..].iter().sum::<usize>()
    };
    let (one, ten) = (taken(1), taken(10));
    assert!(ten < one + 20 * 3, "{one} bytes for one and {ten} for ten");
}

#[test]
fn a_twin_that_goes_takes_no_other_with_it() {
    let (mut writer, mut reader) = (SummaryWriter::new(Form::Coded), SummaryReader::default());
    let key = |name: &str| Arc::new(SeriesKey::new(name, &[]));
    for round in 0..60u32 {
        let alike = f64::from(round * round * 37);
        let mut points = BTreeMap::from([
            (key("b"), Point::Counter(alike)),
            (key("d"), Point::Counter(alike)),
            (key("e"), gauge(alike, &[alike + 9.0])),
        ]);
        // Others come and go between and before them, and the twin goes as well.
        points.extend((round % 3 == 0).then(|| (key("a"), Point::Counter(f64::from(round)))));
        points.extend((round % 4 == 1).then(|| (key("c"), gauge(alike, &[alike + 9.0]))));
        if round % 20 == 19 {
            points.remove(&key("b"));
        }
        let summary = Summary { samples: 2, ..summary_of(u64::from(round) * 10, &points) };
        let columns = sent(&mut writer, &mut reader, &summary);
        assert_eq!(bits(&reader.columns_of(&columns).unwrap()), bits(&summary), "round {round}");
    }
}
