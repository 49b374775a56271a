//! Manifests mean what they mean to the real kubectl, scalar by scalar.

use anyhow::{Context, Result};
use edgefleet::yaml;
use serde_json::Value;
use tests::Kubectl;

/// What a manifest may hold as a value, and everything known to mislead a reader of YAML.
const VALUES: &[&str] = &[
    "",
    "~",
    "null",
    "Null",
    "nULL",
    "true",
    "True",
    "tRUE",
    "yes",
    "Yes",
    "YES",
    "yEs",
    "on",
    "On",
    "oN",
    "y",
    "Y",
    "no",
    "off",
    "OFF",
    "n",
    "N",
    "'yes'",
    "\"no\"",
    "! yes",
    "=",
    "<",
    ".",
    "..",
    "+",
    "_",
    "_1",
    "1_",
    "1__0",
    "0",
    "00",
    "-0",
    "+0",
    "5",
    "+5",
    "--5",
    "0755",
    "-0755",
    "0o755",
    "0O17",
    "0o8",
    "0778",
    "089",
    "08",
    "0_7",
    "0777_7",
    "0x1F",
    "0X1f",
    "-0x1F",
    "0x_1",
    "0x",
    "0xG",
    "0b11",
    "0B11",
    "-0b11",
    "0b2",
    "0b",
    "1,000",
    "1_000",
    "1_000.5",
    "1e3",
    "1E+3",
    "1e",
    "12e",
    "e1",
    "1e-7",
    "1.0",
    "1.",
    "-0.0",
    ".5",
    "-.5",
    "+.5",
    "._5",
    "1.5.2",
    "1e21",
    "1e20",
    "123456789.5",
    "1.5e300",
    "1e999",
    "0x1p-2",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "+9223372036854775808",
    "1234567890123456789.0",
    "0xFFFFFFFFFFFFFFFF",
    "0xFFFFFFFFFFFFFFFFF",
    "08:30",
    "1:30",
    "190:20:30",
    "2020-01-01",
    "2001-12-14t21:59:43.10-05:00",
    "!!str 5",
    "!!str yes",
    "!!int '5'",
    "!!float 5",
    "!!bool 'yes'",
    "!!null ''",
    "!!binary aGVsbG8=",
    "!other 5",
    "[yes, 0755, {no: on}]",
    "{a: 1.0}",
    "|\n    yes",
    ">-\n    a\n    b",
    "|+\n    a\n\n",
    "'it''s'",
    "\"a\\tb\\u00e9\"",
    "a # comment",
    "a#b",
    "http://a:80/",
    "1.2.3.4",
    "1.10",
    "250m",
    "1Gi",
    "é",
    "\u{1f600}",
];

/// Whole mappings.
const MAPPINGS: &[&str] = &[
    "a: &x {b: 1}\n  c: *x",
    "a: 1\n  <<: {a: 2, b: 3}",
    "<<: {a: 2, b: 3}\n  a: 1",
    "<<: [{a: 2, b: 3}, {a: 4, c: 5}]",
    "'<<': {a: 2}",
    "&k key: 1\n  b: *k",
    "10: a\n  0x10: b\n  0755: c\n  -1: d",
    "no: a\n  y: b\n  'n': c",
    "? a\n  : b",
    "a:\n  - 1\n  - 2",
    "a: [1,\n 2]",
    "{}",
];

/// What kubectl refuses.
const REFUSED: &[&str] = &[
    "a: -",
    "a: .inf",
    "a: -.Inf",
    "a: .nan",
    "~: a",
    "? [a]\n  : b",
    "? {a: b}\n  : c",
    "a: *x",
    "a: [1",
    "a: b: c",
    "<<: 5",
    "18446744073709551615: a",
    "a: !!int x",
    "a: 'b",
    "a: @b",
    "a: `b",
];

#[tokio::test]
async fn every_scalar_means_what_kubectl_takes_it_for() -> Result<()> {
    let values = VALUES.iter().map(|value| format!("value: {value}"));
    let rows: Vec<String> = values.chain(MAPPINGS.iter().map(|mapping| (*mapping).to_owned())).collect();
    let stream = rows.iter().map(|row| manifest(row)).collect::<Vec<_>>().join("\n---\n");
    let theirs = documents(&by_kubectl(&stream).await?)?;
    let ours = documents(&stream)?;
    assert_eq!((theirs.len(), ours.len()), (rows.len(), rows.len()));
    for ((row, ours), theirs) in rows.iter().zip(&ours).zip(&theirs) {
        assert_eq!(ours["data"], theirs["data"], "{row}");
    }
    Ok(())
}

#[tokio::test]
async fn what_kubectl_refuses_is_refused() -> Result<()> {
    for row in REFUSED {
        let manifest = manifest(row);
        assert!(by_kubectl(&manifest).await.is_err(), "kubectl takes {row}");
        assert!(yaml::read(&manifest).is_err(), "{row} is taken");
    }
    Ok(())
}

fn manifest(data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  {data}\n")
}

/// What kubectl makes of a stream of manifests, as a stream of JSON, without any cluster.
async fn by_kubectl(stream: &str) -> Result<String> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let kubectl = Kubectl::new(folder.path().join("no-cluster"))?;
    let arguments = ["patch", "--local", "-f", "-", "--type=merge", "-p", "{}", "-o", "json"];
    kubectl.run_with_input(&arguments, stream).await
}

fn documents(stream: &str) -> Result<Vec<Value>> {
    Ok(yaml::read(stream)?.into_iter().map(|document| document.value).collect())
}
