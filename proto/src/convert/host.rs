//! Facts about a host.

use std::collections::BTreeMap;

use mainstay_core::id::BootId;
use mainstay_core::sample::HostFacts;

use super::{ConvertError, bytes};
use crate::v1;

impl From<&HostFacts> for v1::HostFacts {
    fn from(facts: &HostFacts) -> Self {
        let label = |(name, value): (&String, &String)| v1::Label { name: name.clone(), value: value.clone() };
        Self {
            hostname: facts.hostname.clone(),
            boot: facts.boot.0.to_vec(),
            kernel: facts.kernel.clone(),
            os: facts.os.clone(),
            agent_version: facts.agent_version.clone(),
            labels: facts.labels.iter().map(label).collect(),
        }
    }
}

impl TryFrom<v1::HostFacts> for HostFacts {
    type Error = ConvertError;

    fn try_from(facts: v1::HostFacts) -> Result<Self, ConvertError> {
        Ok(Self {
            hostname: facts.hostname,
            boot: BootId(bytes("boot", &facts.boot)?),
            kernel: facts.kernel,
            os: facts.os,
            agent_version: facts.agent_version,
            labels: label_map(facts.labels)?,
        })
    }
}

/// Labels by name; a name that comes twice is an error.
fn label_map(labels: Vec<v1::Label>) -> Result<BTreeMap<String, String>, ConvertError> {
    let mut map = BTreeMap::new();
    for label in labels {
        if let Some(before) = map.insert(label.name.clone(), label.value) {
            return Err(ConvertError::invalid("labels", format!("{} stands twice ({before:?})", label.name)));
        }
    }
    Ok(map)
}
