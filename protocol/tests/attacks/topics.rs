//! Attacks through topics and the identifiers in them.

use protocol::{
    ids::{ClusterId, TokenId},
    topics::{Downward, Upward, enrol_answer, enrol_ask, parse_downward, parse_upward},
};

use crate::common::tower;

const ESCAPES: [&str; 19] = [
    "#",
    "+",
    "tower/#",
    "tower/+",
    "$SYS",
    "$share/g",
    "..",
    "../tower-2",
    "tower-1/d/head",
    "tower 1",
    "TOWER-1",
    "tower\0one",
    "tower\n",
    "töwer",
    "tower%2f",
    "tower_1",
    "tower.1",
    "ab",
    "",
];

#[test]
fn topic_escape_by_an_odd_id() {
    for text in ESCAPES {
        assert!(ClusterId::new(text).is_err(), "cluster {text:?}");
        assert!(TokenId::new(format!("{text}########")).is_err(), "token {text:?}");
        assert!(TokenId::new(format!("tokentoken{text}")).is_err() || ["ab", ""].contains(&text), "{text:?}");
    }
}

#[test]
fn topic_escape_by_an_odd_topic() {
    for text in ESCAPES {
        for leaf in Upward::ALL {
            let topic = leaf.topic(&tower()).replace("tower-1", text);
            assert!(parse_upward(&topic).is_err(), "{topic:?}");
        }
        for leaf in Downward::ALL {
            let topic = leaf.topic(&tower()).replace("tower-1", text);
            assert!(parse_downward(&topic).is_err(), "{topic:?}");
        }
    }
}

#[test]
fn a_cluster_writing_its_own_downward_topics() {
    for leaf in Downward::ALL {
        assert!(parse_upward(&leaf.topic(&tower())).is_err(), "{leaf:?}");
    }
}

#[test]
fn every_topic_is_exact_and_names_its_owner() {
    let token = TokenId::new("token001").unwrap();
    let mine = Downward::ALL.map(|leaf| leaf.topic(&tower())).into_iter();
    let mine = mine.chain(Upward::ALL.map(|leaf| leaf.topic(&tower())));
    for topic in mine {
        assert!(topic.starts_with("ef/v1/c/tower-1/") && !topic.contains(['#', '+', '$']), "{topic}");
        assert!(parse_upward(&topic).is_ok() != parse_downward(&topic).is_ok(), "{topic} has one direction");
    }
    assert_eq!(enrol_ask(&token), "ef/v1/enrol/token001/ask");
    assert_eq!(enrol_answer(&token), "ef/v1/enrol/token001/answer");
    for topic in [enrol_ask(&token), enrol_answer(&token)] {
        assert!(parse_upward(&topic).is_err() && parse_downward(&topic).is_err(), "{topic}");
    }
}
