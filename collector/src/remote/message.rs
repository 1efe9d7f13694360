//! The few messages of remote write 1.0, by the numbers of their fields.
//!
//! What is not stored is read past: metadata wholly, exemplars too; native histograms are counted.

/// What is posted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WriteRequest {
    /// Series, each with some samples.
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

/// One series.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TimeSeries {
    /// All labels, the name as `__name__` among them.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// In the order of their times.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// Native histograms: only how many.
    #[prost(message, repeated, tag = "4")]
    pub histograms: Vec<Passed>,
}

/// A name with its value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Label {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// A value at a moment.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Sample {
    /// The value; some bits of NaN say that the series has ended.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Milliseconds since 1970.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// A message that nothing is read of.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Passed {}
