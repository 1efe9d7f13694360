//! Collectors `nfs` and `nfsd`: calls of the NFS client and server.

use mainstay_core::exposition::{Exposition, FamilyKind};
use mainstay_core::parse::nfs::{self, Rows};

use super::tree::{ScrapeError, Tree};
use super::{Collected, Found};
use FamilyKind::{Counter, Gauge};

/// The calls of version 2 in the kernel's order.
const V2: [&str; 18] = [
    "Null", "GetAttr", "SetAttr", "Root", "Lookup", "ReadLink", "Read", "WrCache", "Write", "Create", "Remove",
    "Rename", "Link", "SymLink", "MkDir", "RmDir", "ReadDir", "FsStat",
];

/// The calls of version 3.
const V3: [&str; 22] = [
    "Null",
    "GetAttr",
    "SetAttr",
    "Lookup",
    "Access",
    "ReadLink",
    "Read",
    "Write",
    "Create",
    "MkDir",
    "SymLink",
    "MkNod",
    "Remove",
    "RmDir",
    "Rename",
    "Link",
    "ReadDir",
    "ReadDirPlus",
    "FsStat",
    "FsInfo",
    "PathConf",
    "Commit",
];

/// The calls of version 4, as a client makes them.
const V4_CLIENT: [&str; 59] = [
    "Null",
    "Read",
    "Write",
    "Commit",
    "Open",
    "OpenConfirm",
    "OpenNoattr",
    "OpenDowngrade",
    "Close",
    "Setattr",
    "FsInfo",
    "Renew",
    "SetClientID",
    "SetClientIDConfirm",
    "Lock",
    "Lockt",
    "Locku",
    "Access",
    "Getattr",
    "Lookup",
    "LookupRoot",
    "Remove",
    "Rename",
    "Link",
    "Symlink",
    "Create",
    "Pathconf",
    "StatFs",
    "ReadLink",
    "ReadDir",
    "ServerCaps",
    "DelegReturn",
    "GetACL",
    "SetACL",
    "FsLocations",
    "ReleaseLockowner",
    "Secinfo",
    "FsidPresent",
    "ExchangeID",
    "CreateSession",
    "DestroySession",
    "Sequence",
    "GetLeaseTime",
    "ReclaimComplete",
    "LayoutGet",
    "GetDeviceInfo",
    "LayoutCommit",
    "LayoutReturn",
    "SecinfoNoName",
    "TestStateID",
    "FreeStateID",
    "GetDeviceList",
    "BindConnToSession",
    "DestroyClientID",
    "Seek",
    "Allocate",
    "DeAllocate",
    "LayoutStats",
    "Clone",
];

/// The operations of version 4, as a server counts them: their number in the protocol, and their name.
const V4_SERVER: [(usize, &str); 35] = [
    (3, "Access"),
    (4, "Close"),
    (5, "Commit"),
    (6, "Create"),
    (7, "DelegPurge"),
    (8, "DelegReturn"),
    (9, "GetAttr"),
    (10, "GetFH"),
    (11, "Link"),
    (12, "Lock"),
    (13, "Lockt"),
    (14, "Locku"),
    (15, "Lookup"),
    (16, "LookupRoot"),
    (17, "Nverify"),
    (18, "Open"),
    (19, "OpenAttr"),
    (20, "OpenConfirm"),
    (21, "OpenDgrd"),
    (22, "PutFH"),
    (25, "Read"),
    (26, "ReadDir"),
    (27, "ReadLink"),
    (28, "Remove"),
    (29, "Rename"),
    (30, "Renew"),
    (31, "RestoreFH"),
    (32, "SaveFH"),
    (33, "SecInfo"),
    (34, "SetAttr"),
    (35, "SetClientID"),
    (36, "SetClientIDConfirm"),
    (37, "Verify"),
    (38, "Write"),
    (39, "RelLockOwner"),
];

pub(super) fn client(tree: &Tree, out: &mut Exposition) -> Collected {
    let path = "proc/net/rpc/nfs";
    let Some(bytes) = tree.bytes(path)? else { return Ok(Found::Nothing) };
    let rows = nfs::client(&bytes).map_err(|source| ScrapeError::Parse { path: path.to_owned(), source })?;
    let mut packets = out.family("node_nfs_packets_total", Counter, "Packets of the client, by protocol.");
    packets.add(&[("protocol", "udp")], at(&rows, "net", 1));
    packets.add(&[("protocol", "tcp")], at(&rows, "net", 2));
    out.counter("node_nfs_connections_total", "TCP connections of the client.", at(&rows, "net", 3));
    out.counter("node_nfs_rpcs_total", "Calls of the client.", at(&rows, "rpc", 0));
    out.counter("node_nfs_rpc_retransmissions_total", "Calls that were sent again.", at(&rows, "rpc", 1));
    out.counter("node_nfs_rpc_authentication_refreshes_total", "Times of new credentials.", at(&rows, "rpc", 2));
    let mut requests = out.family("node_nfs_requests_total", Counter, "Calls of the client, by kind.");
    for (proto, row, methods) in [("2", "proc2", &V2[..]), ("3", "proc3", &V3[..]), ("4", "proc4", &V4_CLIENT[..])] {
        for (method, call) in methods.iter().zip(0..) {
            requests.add(&[("method", method), ("proto", proto)], at(&rows, row, call));
        }
    }
    Ok(Found::Data)
}

pub(super) fn server(tree: &Tree, out: &mut Exposition) -> Collected {
    let path = "proc/net/rpc/nfsd";
    let Some(bytes) = tree.bytes(path)? else { return Ok(Found::Nothing) };
    let rows = nfs::server(&bytes).map_err(|source| ScrapeError::Parse { path: path.to_owned(), source })?;
    for (name, kind, help, row, column) in [
        ("reply_cache_hits_total", Counter, "Calls answered from the cache of replies.", "rc", 0),
        ("reply_cache_misses_total", Counter, "Calls whose reply was put into the cache.", "rc", 1),
        ("reply_cache_nocache_total", Counter, "Calls whose reply needs no cache.", "rc", 2),
        ("file_handles_stale_total", Counter, "Calls with a file handle that is gone.", "fh", 0),
        ("disk_bytes_read_total", Counter, "Bytes read.", "io", 0),
        ("disk_bytes_written_total", Counter, "Bytes written.", "io", 1),
        ("server_threads", Gauge, "Threads of the server.", "th", 0),
        ("read_ahead_cache_size_blocks", Gauge, "Size of the cache for reading ahead; gone since Linux 5.19.", "ra", 0),
        ("read_ahead_cache_not_found_total", Counter, "What was not in that cache.", "ra", 11),
        ("connections_total", Counter, "TCP connections of the server.", "net", 3),
        ("server_rpcs_total", Counter, "Calls of the server.", "rpc", 0),
    ] {
        out.family(&format!("node_nfsd_{name}"), kind, help).add(&[], at(&rows, row, column));
    }
    let mut packets = out.family("node_nfsd_packets_total", Counter, "Packets of the server, by protocol.");
    packets.add(&[("proto", "udp")], at(&rows, "net", 1));
    packets.add(&[("proto", "tcp")], at(&rows, "net", 2));
    let mut errors = out.family("node_nfsd_rpc_errors_total", Counter, "Calls that could not be understood, by why.");
    for (error, column) in [("fmt", 2), ("auth", 3), ("cInt", 4)] {
        errors.add(&[("error", error)], at(&rows, "rpc", column));
    }
    let mut requests = out.family("node_nfsd_requests_total", Counter, "Calls of the server, by kind.");
    // An empty call is not shown here.
    for (proto, row, methods) in [("2", "proc2", &V2[..]), ("3", "proc3", &V3[..])] {
        for (method, call) in methods.iter().zip(0..).skip(1) {
            requests.add(&[("method", method), ("proto", proto)], at(&rows, row, call));
        }
    }
    for (operation, method) in V4_SERVER {
        requests.add(&[("method", method), ("proto", "4")], at(&rows, "proc4ops", operation));
    }
    if let Some(count) = rows.get("wdeleg_getattr").and_then(|row| row.first()) {
        requests.add(&[("method", "WdelegGetattr"), ("proto", "4")], *count);
    }
    Ok(Found::Data)
}

/// A number of a row; what this kernel does not count is zero, as node_exporter has it.
fn at(rows: &Rows<'_>, row: &str, column: usize) -> f64 {
    rows.get(row).and_then(|row| row.get(column)).copied().unwrap_or_default()
}
