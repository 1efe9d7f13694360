//! Every kind of key is read as it is written, and sorts as its fields do.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn host() -> impl Strategy<Value = HostId> {
    any::<[u8; 16]>().prop_map(HostId)
}

macro_rules! kinds {
    ($($test:ident: $name:ident ( $($field:ident: $strategy:expr),+ );)+) => {
        proptest! {
            $(#[test]
            fn $test(a in ($($strategy,)+), b in ($($strategy,)+)) {
                let make = |($($field,)+)| $name { $($field,)+ };
                let (a, b): ($name, $name) = (make(a), make(b));
                prop_assert_eq!(&$name::decode(&a.encode()).unwrap(), &a);
                prop_assert_eq!(a.encode().cmp(&b.encode()), a.cmp(&b));
                prop_assert_eq!(a.encode()[0], $name::ORDINAL);
            })+
        }

        #[test]
        fn ordinals_are_unlike_one_another_and_never_change() {
            let mut seen = BTreeMap::new();
            $(assert_eq!(seen.insert($name::ORDINAL, stringify!($name)), None);)+
            let listed: Vec<u8> = seen.into_keys().collect();
            assert_eq!(
                listed,
                [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 17, 18, 19, 21, 24, 25, 26, 27, 32, 40, 41, 42, 43, 44, 48, 49, 50, 51, 52, 53, 56, 57, 58, 59, 60]
            );
        }

        #[test]
        fn bytes_of_another_kind_or_length_are_refused() {
            $(
                assert!($name::decode(&[]).is_err());
                assert!($name::decode(&[0; 12]).is_err());
                assert!($name::decode(&[&[$name::ORDINAL][..], &[0xff; 99]].concat()).is_err());
            )+
        }
    };
}

kinds! {
    host_keys: HostKey(host: host());
    mark_keys: MarkKey(host: host());
    token_keys: TokenKey(id: any::<String>());
    operator_keys: OperatorKey(name: any::<String>());
    policy_keys: PolicyKey(generation: any::<u64>());
    hold_keys: HoldKey(scope: any::<String>());
    command_keys: CommandKey(at_ms: any::<i64>(), id: any::<u64>());
    order_keys: OrderKey(host: host(), at_ms: any::<i64>(), id: any::<u64>());
    counter_keys: CounterKey(name: any::<String>());
    block_keys: BlockKey(hour: any::<u32>(), host: any::<u32>(), slot: any::<u8>(), part: any::<u8>());
    piece_keys: PieceKey(hour: any::<u32>(), piece: any::<u8>(), host: any::<u32>(), slot: any::<u8>(), sibling: any::<u8>());
    rollup_keys: RollupKey(tier: any::<u8>(), stretch: any::<u32>(), piece: any::<u8>(), host: any::<u32>(), sibling: any::<u8>());
    schema_keys: SchemaKey(id: any::<[u8; 16]>());
    open_row_keys: OpenRowKey(host: any::<u32>(), slot: any::<u32>(), at_ms: any::<i64>());
    remote_keys: RemoteKey(part: any::<u8>(), number: any::<u32>(), at_ms: any::<i64>(), target: any::<String>());
    thinned_keys: ThinnedKey(tier: any::<u8>(), host: any::<u32>());
    backups_keys: BackupsKey(folder: any::<u8>());
    scrub_keys: ScrubKey(number: any::<u8>());
    lease_keys: LeaseKey(host: host(), kind: any::<String>());
    ledger_keys: LedgerKey(host: host(), index: any::<u64>());
    record_by_time_keys: RecordByTimeKey(at_ms: any::<i64>(), host: host(), index: any::<u64>());
    finding_keys: FindingKey(host: host(), finding: any::<u64>().prop_map(FindingId));
    finding_by_time_keys: FindingByTimeKey(opened_ms: any::<i64>(), host: host(), finding: any::<u64>().prop_map(FindingId));
    recording_keys: RecordingKey(host: host(), finding: any::<u64>().prop_map(FindingId));
    change_keys: ChangeKey(host: host(), at_ms: any::<i64>(), id: any::<u64>());
    event_keys: EventKey(at_ms: any::<i64>(), id: any::<u64>());
    change_by_time_keys: ChangeByTimeKey(at_ms: any::<i64>(), host: host(), id: any::<u64>());
    decision_keys: DecisionKey(decision: any::<u64>().prop_map(DecisionId), host: host());
    decision_by_time_keys: DecisionByTimeKey(at_ms: any::<i64>(), decision: any::<u64>().prop_map(DecisionId), host: host());
    decision_by_host_keys: DecisionByHostKey(host: host(), at_ms: any::<i64>(), decision: any::<u64>().prop_map(DecisionId));
    scene_keys: SceneKey(decision: any::<u64>().prop_map(DecisionId), host: host(), action: any::<u64>().prop_map(ActionId));
    action_keys: ActionKey(action: any::<u64>().prop_map(ActionId), host: host());
    incident_keys: IncidentKey(incident: any::<u64>().prop_map(IncidentId));
    incident_by_time_keys: IncidentByTimeKey(opened_ms: any::<i64>(), incident: any::<u64>().prop_map(IncidentId));
    notice_keys: NoticeKey(at_ms: any::<i64>(), incident: any::<u64>().prop_map(IncidentId), cleared: any::<u8>());
    incident_of_keys: IncidentOfKey(host: host(), finding: any::<u64>().prop_map(FindingId));
}
