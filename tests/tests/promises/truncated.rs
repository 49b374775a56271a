//! Content that is cut short or altered in the hub's own store is refused by its digest, and named; nothing of it is
//! applied, and publishing it again mends it.

use anyhow::{Result, ensure};
use edgefleet::bundle::Bundle;
use fleet_broker::resources::{AssignmentState, AssignmentStatus};
use rusqlite::{Connection, params};
use serde_json::json;
use tests::wait_for;

use crate::harness::{SOON, Site};

/// Enough that some would be applied before what is wrong is reached.
const OBJECTS: usize = 40;

/// How the content is damaged, and what the hub then tells of it.
struct Damage {
    what: &'static str,
    sql: &'static str,
    told: &'static str,
}

const DAMAGES: [Damage; 4] = [
    Damage {
        what: "altered",
        sql: "UPDATE blob_rows SET bytes = CAST(substr(bytes, 1, length(bytes) - 40) || x'00' || \
              substr(bytes, length(bytes) - 38) AS BLOB) WHERE digest = ?",
        told: "the content ",
    },
    Damage {
        what: "cut short",
        sql: "UPDATE blob_rows SET bytes = substr(bytes, 1, length(bytes) / 2) WHERE digest = ?",
        told: "the hub does not have it",
    },
    Damage {
        what: "cut short and said to be so long",
        sql: "UPDATE blob_rows SET bytes = substr(bytes, 1, length(bytes) / 2) WHERE digest = ?; \
              UPDATE blobs SET zstd_len = (SELECT length(bytes) FROM blob_rows WHERE digest = blobs.digest) \
              WHERE digest = ?",
        told: "the content ",
    },
    Damage { what: "lost", sql: "DELETE FROM blob_rows WHERE digest = ?", told: "the hub does not have it" },
];

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_damaged_at_the_hub_is_refused_and_mended_by_publishing_it_again() -> Result<()> {
    let mut site = Site::start("truncated").await?;
    let mut last = site.deliver(&manifests(&site.name, "first")).await?;
    site.assigned(&last, AssignmentState::Updated).await?;
    let mut greeting = "first";
    for damage in &DAMAGES {
        // Damaged before any cluster asks for it.
        let app = site.app()?;
        let plan = site.plan(&app);
        let bundle = site.build(&plan, &manifests(&site.name, damage.what), &site.signers(&site.name))?;
        site.operator.push(&bundle).await?;
        site.stop_hub().await?;
        harm(&site, &bundle, damage)?;
        site.start_hub().await?;
        site.condition("Connected").await?;
        let name = site.place(&bundle).await?;
        let message = told(&site, damage.told, &bundle).await?;
        println!("{}: {message}", damage.what);
        let why = |status: &AssignmentStatus| {
            status
                .message
                .as_ref()
                .is_some_and(|text| text.contains("WaitingForContent") && text.contains("failed"))
        };
        let shown = site.assignment("why it waits", |status| status.bundle == name && why(status)).await?;
        ensure!(shown.state == AssignmentState::Pending, "{shown:#?}");
        println!("{}: {:?}", damage.what, shown.message);
        for number in [0, OBJECTS - 1] {
            let found = site.get("configmap", &format!("part-{number}")).await?;
            ensure!(found["data"]["greeting"] == json!(greeting), "{found:#}");
        }
        // The operator publishes the same bundle once more.
        site.operator.push(&bundle).await?;
        site.assigned(&name, AssignmentState::Updated).await?;
        (last, greeting) = (name, damage.what);
        let found = site.get("configmap", "part-0").await?;
        ensure!(found["data"]["greeting"] == json!(greeting), "{last}: {found:#}");
    }
    Ok(())
}

/// Waits until the hub shows that the cluster refused this content.
async fn told(site: &Site, why: &str, bundle: &Bundle) -> Result<String> {
    let digest = bundle.release().pack.short();
    wait_for(&format!("a word of content {digest}"), SOON, async || {
        let message = site.told("RefusedContent").await?;
        for part in [&digest, &format!("{} {}", bundle.release().app, bundle.release().version), why] {
            ensure!(message.contains(part), "{part:?} is not in: {message}");
        }
        Ok(message)
    })
    .await
}

/// Changes content behind the hub's back.
fn harm(site: &Site, bundle: &Bundle, damage: &Damage) -> Result<()> {
    let connection = Connection::open(site.folder.path().join("hub/hub.sqlite"))?;
    let digest = bundle.release().pack;
    for statement in damage.sql.split("; ") {
        let changed = connection.execute(statement, params![digest.as_bytes()])?;
        ensure!(changed == 1, "{}: {changed} rows", damage.what);
    }
    Ok(())
}

fn manifests(namespace: &str, greeting: &str) -> String {
    let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n");
    (0..OBJECTS).fold(namespace, |text, number| {
        format!(
            "{text}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: part-{number}}}\n\
             data: {{greeting: '{greeting}'}}\n"
        )
    })
}
