//! Random ops and random JSON, for the properties of change messages.

use proptest::prelude::*;

use super::*;

pub(super) fn uids() -> impl Strategy<Value = CardUid> {
    (prop_oneof![Just(4_usize), Just(7), Just(10)], any::<[u8; 10]>())
        .prop_map(|(len, bytes)| CardUid::from_bytes(&bytes[..len]))
        .prop_filter_map("blank or random", |uid| uid.ok().filter(|u| !u.is_random() && !u.is_cascade_tag()))
}

pub(super) fn id<T: std::str::FromStr<Err: std::fmt::Debug> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    "[A-Za-z0-9][A-Za-z0-9_-]{0,63}".prop_map(|text| text.parse().unwrap())
}

pub(super) fn times() -> impl Strategy<Value = Timestamp> {
    (946_684_800_000_i64..253_402_200_000_000).prop_map(Timestamp)
}

pub(super) fn windows() -> impl Strategy<Value = Vec<Window>> {
    let window = (0..1440_u16, 0..=1440_u16).prop_map(|(start_min, end_min)| Window { start_min, end_min });
    proptest::collection::vec(window, 0..3)
}

pub(super) fn schedules() -> impl Strategy<Value = Schedule> {
    let holidays = proptest::collection::btree_map((0..9999_i16, 1..=12_u8, 1..=28_u8), windows(), 0..3)
        .prop_map(|all| all.into_iter().map(|(date, windows)| Holiday { date, windows }).collect());
    let zone = prop_oneof![Just(None), Just(Some("Asia/Shanghai".to_owned())), Just(Some("Europe/Berlin".to_owned()))];
    (proptest::array::uniform7(windows()), holidays, zone).prop_map(|(weekly, holidays, timezone)| Schedule {
        weekly,
        holidays,
        timezone,
    })
}

pub(super) fn subjects() -> impl Strategy<Value = Subject> {
    prop_oneof![uids().prop_map(Subject::Card), id().prop_map(Subject::Holder)]
}

pub(super) fn enrolments() -> impl Strategy<Value = Enrolment> {
    let zone = prop_oneof![Just(ZoneSet::Any), id::<Zone>().prop_map(ZoneSet::One)];
    let entitlement = (proptest::sample::select(&PortalKind::ALL[..]), zone, proptest::option::of(id()))
        .prop_map(|(kind, zone, schedule)| Entitlement { kind, zone, schedule });
    let window = || proptest::option::of(times());
    (id(), proptest::sample::select(&Role::ALL[..]), window(), window(), proptest::collection::vec(entitlement, 0..4))
        .prop_filter("window", |(_, _, from, to, _)| from.zip(*to).is_none_or(|(from, to)| from < to))
        .prop_map(|(holder, role, not_before, not_after, entitlements)| Enrolment {
            holder,
            role,
            not_before,
            not_after,
            entitlements,
        })
}

pub(super) fn all_ops() -> impl Strategy<Value = Op> {
    let flag = (
        subjects(),
        proptest::sample::select(vec![
            (Flag::Lost, true),
            (Flag::Lost, false),
            (Flag::Frozen, true),
            (Flag::Frozen, false),
            (Flag::Cancelled, true),
        ]),
    )
        .prop_map(|(subject, (flag, on))| Op::SetFlag { subject, flag, on });
    let portals =
        prop_oneof![Just(PortalSet::All), proptest::collection::vec(id::<PortalId>(), 1..4).prop_map(PortalSet::Some)];
    prop_oneof![
        (uids(), id()).prop_map(|(uid, holder)| Op::Issue { uid, holder }),
        (id(), uids(), proptest::option::of(uids())).prop_map(|(holder, new_uid, old_uid)| Op::Reissue {
            holder,
            new_uid,
            old_uid
        }),
        flag,
        uids().prop_map(|uid| Op::Reinstate { uid }),
        (uids(), enrolments()).prop_map(|(uid, enrolment)| Op::Enrol { uid, enrolment }),
        subjects().prop_map(|subject| Op::Withdraw { subject }),
        (id(), proptest::sample::select(&SuspendReason::ALL[..]), any::<bool>())
            .prop_map(|(zone, reason, suspended)| Op::Power { zone, reason, suspended }),
        (id(), schedules()).prop_map(|(name, schedule)| Op::DefineSchedule { name, schedule }),
        (portals, proptest::sample::select(&Posture::ALL[..]), proptest::option::of(times()))
            .prop_map(|(portals, posture, until)| Op::SetPosture { portals, posture, until }),
    ]
}

/// Any JSON, with the contract's own names among it.
pub(super) fn json_values() -> impl Strategy<Value = Value> {
    let word = proptest::sample::select(vec![
        "op",
        "uid",
        "holder",
        "entitlements",
        "kind",
        "zone",
        "gate",
        "*",
        "weekly",
        "mon",
        "06:00-23:00",
        "posture",
        "portals",
        "until",
        "enrol",
        "issue",
        "define_schedule",
        "set_posture",
        "1EA68671",
        "holidays",
        "date",
        "2026-10-01",
        "timezone",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        ".{0,9}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        let key = word.clone().prop_map(str::to_owned);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            proptest::collection::btree_map(key, inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
