//! Tables of who may what.

use std::net::IpAddr;
use std::time::Duration;

use protocol::ids::Digest;
use protocol::time::UnixSeconds;

use super::*;

/// The routes of the API, as its router has them.
const API: &str = include_str!("../../api.rs");
const G: &str = "/apis/edgefleet.dev/v1alpha1";

/// Method, route, path, and the least role that may.
type Row = (&'static str, &'static str, &'static str, Role);

const OBJECTS: &str = "/apis/edgefleet.dev/v1alpha1/{*path}";

const ROWS: &[Row] = &[
    ("GET", "/api", "/api", Role::Viewer),
    ("GET", "/api/v1", "/api/v1", Role::Viewer),
    ("GET", "/api/v1/events", "/api/v1/events", Role::Viewer),
    ("GET", "/api/v1/namespaces", "/api/v1/namespaces", Role::Viewer),
    ("GET", "/api/v1/namespaces/{namespace}", "/api/v1/namespaces/radio", Role::Viewer),
    ("GET", "/api/v1/namespaces/{namespace}/events", "/api/v1/namespaces/radio/events", Role::Viewer),
    (
        "GET",
        "/api/v1/namespaces/{namespace}/events/{name}",
        "/api/v1/namespaces/radio/events/x",
        Role::Viewer,
    ),
    ("GET", "/apis", "/apis", Role::Viewer),
    ("GET", "/apis/edgefleet.dev", "/apis/edgefleet.dev", Role::Viewer),
    ("GET", "/apis/edgefleet.dev/v1alpha1", "/apis/edgefleet.dev/v1alpha1", Role::Viewer),
    ("GET", "/apis/authentication.k8s.io", "/apis/authentication.k8s.io", Role::Viewer),
    ("GET", "/apis/authentication.k8s.io/v1", "/apis/authentication.k8s.io/v1", Role::Viewer),
    ("GET", "/apis/authorization.k8s.io", "/apis/authorization.k8s.io", Role::Viewer),
    ("GET", "/apis/authorization.k8s.io/v1", "/apis/authorization.k8s.io/v1", Role::Viewer),
    same("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", Role::Viewer),
    same("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", Role::Viewer),
    same("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", Role::Viewer),
    ("POST", "/apis/edgefleet.dev/v1alpha1/clusters/{name}/export", "G/clusters/a/export", Role::Operator),
    ("POST", "/apis/edgefleet.dev/v1alpha1/clusters/{name}/join", "G/clusters/a/join", Role::Operator),
    ("POST", "/apis/edgefleet.dev/v1alpha1/clusters/{name}/report", "G/clusters/a/report", Role::Operator),
    ("POST", "/apis/edgefleet.dev/v1alpha1/clusters/{name}/revoke", "G/clusters/a/revoke", Role::Operator),
    ("GET", "/apis/edgefleet.dev/v1alpha1/tokens", "G/tokens", Role::Admin),
    ("POST", "/apis/edgefleet.dev/v1alpha1/tokens", "G/tokens", Role::Admin),
    ("DELETE", "/apis/edgefleet.dev/v1alpha1/tokens/{name}", "G/tokens/ann", Role::Admin),
    ("GET", OBJECTS, "G/clusters", Role::Viewer),
    ("GET", OBJECTS, "G/clusters/a", Role::Viewer),
    ("HEAD", OBJECTS, "G/clusters/a", Role::Viewer),
    ("GET", OBJECTS, "G/clusters/a/status", Role::Viewer),
    ("GET", OBJECTS, "G/bundles", Role::Viewer),
    ("GET", OBJECTS, "G/namespaces/radio/applications", Role::Viewer),
    ("GET", OBJECTS, "G/namespaces/radio/assignments/a.b", Role::Viewer),
    ("GET", OBJECTS, "G/freezes", Role::Viewer),
    ("DELETE", OBJECTS, "G/freezes/fleet", Role::Operator),
    ("POST", OBJECTS, "G/clusters", Role::Operator),
    ("PUT", OBJECTS, "G/clusters/a", Role::Operator),
    ("PATCH", OBJECTS, "G/namespaces/radio/applications/a", Role::Operator),
    ("DELETE", OBJECTS, "G/namespaces/radio/bundles/a", Role::Operator),
    ("PATCH", OBJECTS, "G/clusters/a/status", Role::Admin),
    ("PUT", OBJECTS, "G/namespaces/radio/applications/a/status", Role::Admin),
    ("DELETE", OBJECTS, "G/clusters", Role::Admin),
    ("PUT", OBJECTS, "G/namespaces/radio/assignments/a", Role::Admin),
    ("GET", OBJECTS, "G/rollouts", Role::Admin),
    // Two ways to read a path: the router's and that of whoever serves it.
    ("PUT", OBJECTS, "G/namespaces/x%2Fapplications/bundles/status", Role::Admin),
    ("GET", OBJECTS, "G/%74okens", Role::Admin),
    ("POST", OBJECTS, "G/clusters//join", Role::Operator),
    ("OPTIONS", OBJECTS, "G/clusters", Role::Admin),
    same("GET", "/openapi/v2", Role::Viewer),
    same("GET", "/openapi/v3", Role::Viewer),
    same("GET", "/openapi/v3/apis/edgefleet.dev/v1alpha1", Role::Viewer),
    ("GET", "/blobs/sha256/{digest}", "/blobs/sha256/9f", Role::Viewer),
    ("PUT", "/blobs/sha256/{digest}", "/blobs/sha256/9f", Role::Operator),
    ("DELETE", "/blobs/sha256/{digest}", "/blobs/sha256/9f", Role::Admin),
    same("GET", "/backup", Role::Admin),
    same("GET", "/recovery", Role::Viewer),
    same("POST", "/recovery/accept", Role::Operator),
    same("GET", "/metrics", Role::Viewer),
    same("GET", "/livez", Role::Viewer),
    same("GET", "/readyz", Role::Viewer),
    same("GET", "/version", Role::Viewer),
];

const fn same(method: &'static str, path: &'static str, least: Role) -> Row {
    (method, path, path, least)
}

#[test]
fn every_route_has_its_least_role() {
    for (method, _, path, least) in ROWS {
        let path = path.replace("G/", &format!("{G}/"));
        let asked = Asked::of(method, &path, false);
        for role in Role::ALL {
            assert_eq!(role.allows(&asked), role >= *least, "{} {method} {path}: {asked:?}", role.name());
        }
    }
    for path in ["/", "/nothing", "/debug/pprof", "/apis/apps/v1/deployments", "/blob", "/apisx"] {
        let asked = Asked::of("GET", path, false);
        assert!(!Role::Operator.allows(&asked) && Role::Admin.allows(&asked), "{path}");
    }
}

#[test]
fn no_route_is_missing_in_the_table() {
    let routes: Vec<&str> =
        API.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(routes.len() > 20, "{routes:?}");
    for route in routes {
        assert!(ROWS.iter().any(|(_, known, _, _)| *known == route), "say who may {route}");
    }
}

#[test]
fn what_is_asked_is_worded_as_an_api_server_does() {
    let rows = [
        (
            "DELETE",
            "G/clusters/x",
            "delete resource \"clusters\" in API group \"edgefleet.dev\" at the cluster scope",
        ),
        (
            "GET",
            "G/clusters?",
            "list resource \"clusters\" in API group \"edgefleet.dev\" at the cluster scope",
        ),
        (
            "PATCH",
            "G/namespaces/radio/applications/a/status",
            "patch resource \"applications/status\" in API group \"edgefleet.dev\" in the namespace \"radio\"",
        ),
        ("GET", "/api/v1/namespaces", "list resource \"namespaces\" in API group \"\" at the cluster scope"),
        ("POST", "/nothing", "post path \"/nothing\""),
    ];
    for (method, path, expected) in rows {
        let path = path.replace("G/", &format!("{G}/"));
        assert_eq!(Asked::of(method, path.trim_end_matches('?'), false).to_string(), expected);
    }
    assert!(Asked::of("GET", &format!("{G}/clusters"), true).is_watch());
    assert!(!Asked::of("GET", &format!("{G}/clusters/a"), true).is_watch());
    for (method, path, is_upload) in [
        ("PUT", "/blobs/sha256/00", true),
        ("GET", "/blobs/sha256/00", false),
        ("PUT", "/api/v1/namespaces/blobs", false),
    ] {
        assert_eq!(Asked::of(method, path, false).is_upload(), is_upload, "{method} {path}");
    }
}

#[test]
fn a_bucket_gives_its_burst_and_then_its_rate() {
    let rate = Rate { burst: 3, every: Duration::from_secs(10) };
    let mut bucket = Bucket::default();
    // Seconds, and how many seconds to wait.
    let rows = [(100, 0), (100, 0), (101, 0), (101, 9), (109, 1), (110, 0), (110, 10), (129, 0), (1000, 0)];
    for (now, wait) in rows {
        let expected = if wait == 0 { Ok(()) } else { Err(Duration::from_secs(wait)) };
        assert_eq!(bucket.take(Duration::from_secs(now), rate), expected, "at {now}");
    }
    assert!(!bucket.is_full(Duration::from_secs(1009)) && bucket.is_full(Duration::from_secs(1010)));
}

#[test]
fn failures_are_counted_by_address_in_bounded_memory() {
    let mut failures = Failures::default();
    let at = Duration::from_secs(1);
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let mut spent = |text: &str| (0..100).filter(|_| failures.count(at, address(text)).is_ok()).count();
    // Text, and how many of a hundred failures at once are counted: 0 where the site has had its own.
    for (text, counted) in
        [("10.0.0.1", 20), ("10.0.0.2", 20), ("::ffff:10.0.0.1", 0), ("2001:db8::1", 20), ("2001:db8::2", 0)]
    {
        assert_eq!(spent(text), counted, "{text}");
    }
    for number in 0..10_000u32 {
        let _counted = failures.count(at, IpAddr::from(number.to_be_bytes()));
    }
    assert!(failures.len() <= 4096, "{}", failures.len());
    assert!(failures.count(at, address("192.0.2.1")).is_err(), "the others share one bucket");
    let later = Duration::from_secs(1000);
    assert!(failures.count(later, address("192.0.2.1")).is_ok());
    assert_eq!(failures.len(), 1, "who has stopped is forgotten");
}

#[test]
fn names_of_tokens() {
    let long = "a".repeat(64);
    for (name, expected) in [
        ("ann", Ok(())),
        ("ci.radio-2", Ok(())),
        ("admin", Err(RecordError::Reserved)),
        ("", Err(RecordError::Name)),
        ("Ann", Err(RecordError::Name)),
        ("-a", Err(RecordError::Name)),
        ("a/b", Err(RecordError::Name)),
        ("a\n", Err(RecordError::Name)),
        (long.as_str(), Err(RecordError::Name)),
    ] {
        assert_eq!(check_name(name), expected, "{name:?}");
    }
}

#[test]
fn a_use_is_worth_a_write_now_and_then() {
    let mut record = Record {
        hash: Digest::of(b""),
        role: Role::Viewer,
        created: UnixSeconds(0),
        expires: Some(UnixSeconds(5000)),
        last_used: None,
    };
    for (now, due) in [(1000, true), (1001, false), (1599, false), (1600, true), (1500, false)] {
        assert_eq!(record.used(UnixSeconds(now)), due, "{now}");
    }
    for (now, expired) in [(0, false), (4999, false), (5000, true)] {
        assert_eq!(record.is_expired(UnixSeconds(now)), expired, "{now}");
    }
    let bytes = protocol::codec::encode(&record);
    assert_eq!(protocol::codec::decode::<Record>("token", &bytes).unwrap(), record);
}
