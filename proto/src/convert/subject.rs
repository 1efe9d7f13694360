//! What a finding or an action is about.

use mainstay_core::subject::{PathBytes, Subject};

use super::{ConvertError, word};
use crate::v1::{self, subject::Of};

impl From<&Subject> for v1::Subject {
    fn from(subject: &Subject) -> Self {
        let of = match subject {
            Subject::Host => Of::Host(true),
            Subject::Unit(unit) => Of::Unit(unit.as_str().to_owned()),
            Subject::Mount(path) => Of::Mount(path.0.clone()),
            Subject::Disk(name) => Of::Disk(name.clone()),
            Subject::Interface(name) => Of::Interface(name.clone()),
            Subject::Series(name) => Of::Series(name.clone()),
        };
        Self { of: Some(of) }
    }
}

impl TryFrom<v1::Subject> for Subject {
    type Error = ConvertError;

    fn try_from(subject: v1::Subject) -> Result<Self, ConvertError> {
        match subject.of {
            None => Err(ConvertError::missing("of")),
            Some(Of::Host(true)) => Ok(Self::Host),
            Some(Of::Host(false)) => Err(ConvertError::invalid("host", "false")),
            Some(Of::Unit(unit)) => word("unit", &unit).map(Self::Unit),
            Some(Of::Mount(path)) => Ok(Self::Mount(PathBytes(path))),
            Some(Of::Disk(name)) => Ok(Self::Disk(name)),
            Some(Of::Interface(name)) => Ok(Self::Interface(name)),
            Some(Of::Series(name)) => Ok(Self::Series(name)),
        }
    }
}
