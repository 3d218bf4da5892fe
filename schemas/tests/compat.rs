//! The contract is only ever added to.
//!
//! `schemas/compat/drover.v1.binpb` is the description that was last committed. A field that is
//! in it and not, or otherwise, in the `.proto` files fails here. After an addition,
//! `DROVER_BLESS=1 cargo test -p drover-schemas` writes the new description, unless it breaks the
//! old one.

#![allow(clippy::unwrap_used, reason = "a failed test may panic anywhere")]

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

fn committed() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("compat/drover.v1.binpb")
}

/// What must stay as it is: by name, how each field and each enum value is known on the wire.
fn contract(set: &FileDescriptorSet) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for file in &set.file {
        for message in &file.message_type {
            add_message(&mut out, file.package(), message);
        }
        for values in &file.enum_type {
            add_enum(&mut out, file.package(), values);
        }
    }
    out
}

fn add_message(out: &mut BTreeMap<String, String>, scope: &str, message: &DescriptorProto) {
    let name = format!("{scope}.{}", message.name());
    out.insert(name.clone(), "message".to_owned());
    for field in &message.field {
        let oneof = field.oneof_index.map(|at| message.oneof_decl[at as usize].name().to_owned());
        let wire = format!(
            "number {}, type {:?} {}, {:?}, oneof {oneof:?}",
            field.number(),
            field.r#type(),
            field.type_name(),
            field.label(),
        );
        out.insert(format!("{name}.{}", field.name()), wire);
    }
    message.nested_type.iter().for_each(|nested| add_message(out, &name, nested));
    message.enum_type.iter().for_each(|values| add_enum(out, &name, values));
}

fn add_enum(out: &mut BTreeMap<String, String>, scope: &str, values: &EnumDescriptorProto) {
    for value in &values.value {
        let name = format!("{scope}.{}.{}", values.name(), value.name());
        out.insert(name, format!("number {}", value.number()));
    }
}

/// What of the old contract does not hold any more.
fn broken(old: &FileDescriptorSet, new: &FileDescriptorSet) -> Vec<String> {
    let new = contract(new);
    contract(old)
        .into_iter()
        .filter_map(|(name, wire)| match new.get(&name) {
            Some(now) if *now == wire => None,
            Some(now) => Some(format!("{name} was {wire}, is {now}")),
            None => Some(format!("{name} is gone")),
        })
        .collect()
}

fn compile(text: &str) -> FileDescriptorSet {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.proto"), text).unwrap();
    let set = protox::compile(["a.proto"], [folder.path()]).unwrap();
    FileDescriptorSet::decode(set.encode_to_vec().as_slice()).unwrap()
}

#[test]
fn nothing_of_the_committed_contract_is_removed_renumbered_or_retyped() {
    let new = FileDescriptorSet::decode(drover_schemas::DESCRIPTOR).unwrap();
    if let Ok(bytes) = fs::read(committed()) {
        let old = FileDescriptorSet::decode(bytes.as_slice()).unwrap();
        let broken = broken(&old, &new);
        assert!(broken.is_empty(), "readers of old events break:\n{}", broken.join("\n"));
    }
    if env::var_os("DROVER_BLESS").is_some() {
        fs::write(committed(), drover_schemas::DESCRIPTOR).unwrap();
    }
    let old = FileDescriptorSet::decode(fs::read(committed()).unwrap().as_slice()).unwrap();
    assert_eq!(
        contract(&old),
        contract(&new),
        "the contract has grown: run DROVER_BLESS=1 cargo test -p drover-schemas, and commit"
    );
}

#[test]
fn the_check_sees_each_way_to_break_it() {
    let file = |body: &str| compile(&format!("syntax = \"proto3\"; package p; {body}"));
    let old = file("message M { string a = 1; uint32 b = 2; } enum E { E_ZERO = 0; E_ONE = 1; }");
    for (change, body) in [
        ("removed", "message M { string a = 1; } enum E { E_ZERO = 0; E_ONE = 1; }"),
        (
            "renumbered",
            "message M { string a = 1; uint32 b = 3; } enum E { E_ZERO = 0; E_ONE = 1; }",
        ),
        ("retyped", "message M { string a = 1; uint64 b = 2; } enum E { E_ZERO = 0; E_ONE = 1; }"),
        (
            "repeated",
            "message M { string a = 1; repeated uint32 b = 2; } enum E { E_ZERO = 0; E_ONE = 1; }",
        ),
        ("renamed", "message M { string a = 1; uint32 c = 2; } enum E { E_ZERO = 0; E_ONE = 1; }"),
        ("value gone", "message M { string a = 1; uint32 b = 2; } enum E { E_ZERO = 0; }"),
        ("message gone", "enum E { E_ZERO = 0; E_ONE = 1; }"),
    ] {
        assert!(!broken(&old, &file(body)).is_empty(), "{change}");
    }
    let grown = file(
        "message M { string a = 1; uint32 b = 2; string c = 3; } enum E { E_ZERO = 0; E_ONE = 1; E_TWO = 2; }",
    );
    assert!(broken(&old, &grown).is_empty(), "an addition is no break");
}
