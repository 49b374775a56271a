//! A folder in which `edgefleet` runs as a stranger runs it.
#![allow(dead_code, unused_imports, reason = "each test uses its part")]

mod fleet;

use std::{
    fs,
    io::Write,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

pub(crate) use fleet::Fleet;

/// A manifest of one object.
pub(crate) const CONFIG: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: gateway}\ndata: {level: info}\n";

/// A folder in which commands run, with the keys of a fleet.
pub(crate) struct Desk(pub(crate) TempDir);

/// What a command left behind.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) data: String,
    pub(crate) messages: String,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        let init = "keys init keys --fleet acme --tenant radio --namespace radio --namespace radio-*";
        assert_eq!(desk.run(init).code, Some(0));
        desk
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    /// Runs `edgefleet` with arguments that hold no spaces.
    pub(crate) fn run(&self, arguments: &str) -> Run {
        self.run_with(arguments, "")
    }

    pub(crate) fn run_with(&self, arguments: &str, stdin: &str) -> Run {
        let mut child = Command::new(env!("CARGO_BIN_EXE_edgefleet"))
            .args(arguments.split(' '))
            .current_dir(self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that fails before it reads closes the pipe; what it prints is what counts.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        let (data, messages) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        Run { code: status.code(), data, messages }
    }

    pub(crate) fn build(&self, source: &str) -> Run {
        self.run(&format!("bundle build {source} --app radio/gateway --version 1.4.2 -o out.bundle"))
    }

    pub(crate) fn verify(&self) -> Run {
        self.run("bundle verify out.bundle --root keys/root.cose")
    }
}

impl Run {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.messages);
        self
    }

    #[track_caller]
    pub(crate) fn fails(&self, code: i32, expected: &str) {
        assert_eq!(self.code, Some(code), "{}", self.messages);
        assert!(self.messages.starts_with("error: "), "{}", self.messages);
        assert!(self.messages.contains(expected), "{}\n  lacks {expected}", self.messages);
        assert!(self.data.is_empty(), "data of a failed command: {}", self.data);
    }
}
