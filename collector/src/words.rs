//! Numbers as people read them, in what the collector says.

/// So many hosts: `1 host`, `3 hosts`.
pub(crate) fn hosts(count: impl Into<u64>) -> String {
    match count.into() {
        1 => "1 host".to_owned(),
        count => format!("{count} hosts"),
    }
}

#[cfg(test)]
mod tests {
    use super::hosts;

    #[test]
    fn one_host_is_no_hosts() {
        assert_eq!([hosts(0u32), hosts(1u32), hosts(2u64)], ["0 hosts", "1 host", "2 hosts"]);
    }
}
