//! Column families, and how each is kept.
//!
//! Sizes are for a collector on two cores with a budget of 1.5 GiB: one cache for all, write
//! buffers charged to it, so that what RocksDB uses has one bound.

use std::collections::BTreeSet;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, Options, WriteBufferManager,
};

/// A column family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// Hosts, marks, tokens, operators, policies, holds, commands, orders, counters.
    Meta,
    /// Sealed host blocks and their schemas.
    Series,
    /// Rows of blocks that are not sealed yet; deleted when they are.
    Head,
    /// Raw ledger records.
    Ledger,
    /// Findings.
    Findings,
    /// Decisions with what followed.
    Decisions,
    /// Incidents.
    Incidents,
}

impl Column {
    /// All of them. RocksDB wants every one named when it opens.
    pub const ALL: [Self; 7] =
        [Self::Meta, Self::Series, Self::Head, Self::Ledger, Self::Findings, Self::Decisions, Self::Incidents];

    /// The name on disk, stable for ever.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Series => "series",
            Self::Head => "head",
            Self::Ledger => "ledger",
            Self::Findings => "findings",
            Self::Decisions => "decisions",
            Self::Incidents => "incidents",
        }
    }

    /// Whether what can be read of it is served where not all can be. What a start needs is whole or refused, and a ledger
    /// with a hole would be no proof.
    #[must_use]
    pub fn is_served_in_part(self) -> bool {
        !matches!(self, Self::Meta | Self::Ledger)
    }

    fn options(self, cache: &Cache, is_compacted: bool) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(cache);
        table.set_cache_index_and_filter_blocks(true);
        table.set_cache_index_and_filter_blocks_with_high_priority(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_block_size(if self == Self::Series { 32 * KIB } else { 16 * KIB });
        if matches!(self, Self::Meta | Self::Findings | Self::Decisions | Self::Incidents) {
            table.set_bloom_filter(10.0, false);
        }
        let mut options = Options::default();
        options.set_disable_auto_compactions(!is_compacted);
        options.set_block_based_table_factory(&table);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_target_file_size_base(64 * MIB as u64);
        options.set_max_write_buffer_number(3);
        options.set_write_buffer_size(match self {
            Self::Series | Self::Head | Self::Ledger => 32 * MIB,
            _ => 8 * MIB,
        });
        options.set_compression_type(match self {
            // Blocks are compressed already; open rows of one host are much alike.
            Self::Series => DBCompressionType::None,
            Self::Meta | Self::Head => DBCompressionType::Lz4,
            _ => DBCompressionType::Zstd,
        });
        options
    }
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Descriptors of all column families, over one cache; those of `held` are not compacted.
pub(super) fn descriptors(cache: &Cache, held: &BTreeSet<Column>) -> Vec<ColumnFamilyDescriptor> {
    let one =
        |column: &Column| ColumnFamilyDescriptor::new(column.name(), column.options(cache, !held.contains(column)));
    Column::ALL.iter().map(one).collect()
}

/// Options of the database as a whole, with the cache that everything is charged to.
pub(super) fn database_options(cache_bytes: usize) -> (Options, Cache) {
    let cache = Cache::new_lru_cache(cache_bytes);
    // Writers wait rather than grow: the sessions' credit shrinks with them.
    let buffers = WriteBufferManager::new_write_buffer_manager_with_cache(cache_bytes * 3 / 8, true, cache.clone());
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_write_buffer_manager(&buffers);
    options.set_max_background_jobs(2);
    options.set_max_subcompactions(1);
    options.set_max_open_files(-1);
    options.set_bytes_per_sync(MIB as u64);
    options.set_wal_bytes_per_sync(512 * KIB as u64);
    options.set_max_total_wal_size(256 * MIB as u64);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_paranoid_checks(true);
    options.set_keep_log_file_num(5);
    options.set_max_log_file_size(16 * MIB);
    (options, cache)
}
