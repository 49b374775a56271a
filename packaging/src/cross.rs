//! Builds the agent as it is released: small, without features, static, for every machine from any Linux.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    logic::elf::{Machine, check_static},
    process::{cargo, run},
    say,
};

/// The linker and musl's libc come with Zig, for all machines; cargo-zigbuild tells cargo of them. Their exact
/// files are pinned, because what they do ends in the binary.
const ZIGBUILD: &str = "0.24.0";
const ZIG: &str = "0.15.2";
const REQUIREMENTS: &str = include_str!("../requirements.txt");

/// What the journal never uses of SQLite: full-text search, spatial indexes, statistics, checks of a C program's
/// arguments, and loading of libraries, 340 KB; JSON, other encodings, authorization, tracing and what else can be left
/// out of an amalgamation, 110 KB; and the 48 KB of memory that it would set aside for small allocations.
const SQLITE_FLAGS: &[&str] = &[
    "-USQLITE_ENABLE_API_ARMOR",
    "-USQLITE_ENABLE_COLUMN_METADATA",
    "-USQLITE_ENABLE_DBSTAT_VTAB",
    "-USQLITE_ENABLE_FTS3",
    "-USQLITE_ENABLE_FTS3_PARENTHESIS",
    "-USQLITE_ENABLE_FTS5",
    "-USQLITE_ENABLE_LOAD_EXTENSION",
    "-USQLITE_ENABLE_RTREE",
    "-USQLITE_ENABLE_STAT4",
    "-USQLITE_SOUNDEX",
    "-DSQLITE_OMIT_AUTHORIZATION",
    "-DSQLITE_OMIT_AUTOVACUUM",
    "-DSQLITE_OMIT_COMPILEOPTION_DIAGS",
    "-DSQLITE_OMIT_COMPLETE",
    "-DSQLITE_OMIT_DECLTYPE",
    "-DSQLITE_OMIT_DEPRECATED",
    "-DSQLITE_OMIT_DESERIALIZE",
    "-DSQLITE_OMIT_GET_TABLE",
    "-DSQLITE_OMIT_INCRBLOB",
    "-DSQLITE_OMIT_INTEGRITY_CHECK",
    "-DSQLITE_OMIT_JSON",
    "-DSQLITE_OMIT_LOAD_EXTENSION",
    "-DSQLITE_OMIT_LOCALTIME",
    "-DSQLITE_OMIT_LOOKASIDE",
    "-DSQLITE_OMIT_PROGRESS_CALLBACK",
    "-DSQLITE_OMIT_SHARED_CACHE",
    "-DSQLITE_OMIT_TCL_VARIABLE",
    "-DSQLITE_OMIT_TRACE",
    "-DSQLITE_OMIT_UTF16",
    "-DSQLITE_UNTESTABLE",
];

/// Of Zstandard's decoder one loop for each step rather than several that are fast on different processors: what it
/// unpacks came over a slow link.
const ZSTD_FLAGS: &[&str] = &[
    "-DDYNAMIC_BMI2=0",
    "-DHUF_FORCE_DECOMPRESS_X1=1",
    "-DZSTD_FORCE_DECOMPRESS_SEQUENCES_SHORT=1",
    "-DZSTD_NO_INLINE=1",
];

/// The standard library is built with the agent, so that it is as small and has no tables for unwinding either: a
/// panic ends the agent, and a stripped program has no names for a backtrace. 1.1 MB on aarch64.
const STANDARD_LIBRARY: &[&str] = &["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"];

/// No tables for unwinding, and musl's start files from Zig, since a library built here brings none.
const RUST_FLAGS: &str = "-C force-unwind-tables=no -C link-self-contained=no";

/// The same for what is written in C.
const C_FLAGS: &[&str] = &["-fno-unwind-tables", "-fno-asynchronous-unwind-tables"];

/// The machines that are built for.
const MACHINES: [Machine; 2] = [Machine::Aarch64, Machine::X86_64];

/// A folder of compiled dependencies that has become larger is made anew: every clone leaves its own agent there.
const TARGET_BYTES_MAX: u64 = 2 << 30;

/// The agent's programs.
#[derive(Debug)]
pub(crate) struct Agents {
    pub(crate) aarch64: Agent,
    pub(crate) x86_64: Agent,
}

/// One program.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

/// Builds the agent for all machines and puts the programs into `out`. What can be used again is kept in `cache`.
pub(crate) fn build(workspace: &Path, cache: &Path, out: &Path) -> Result<Agents> {
    fs::create_dir_all(cache).with_context(|| format!("make the folder {}", cache.display()))?;
    // One at a time: others, in other clones, wait until this is closed.
    let lock = cache.join("packaging.lock");
    let lock = File::create(&lock).with_context(|| format!("make {}", lock.display()))?;
    lock.lock().context("wait for another build of the agent")?;

    let tools = tools(cache)?;
    standard_library(workspace)?;
    let target = target_folder(workspace, cache)?;
    compile(workspace, &tools, &target)?;
    let agent = |machine: Machine| {
        let built = target.join(machine.target()).join("edge/edge-agent");
        let path = out.join(format!("edge-agent-{}", machine.target()));
        // A copy, because the next build may be another clone's.
        let bytes = fs::copy(&built, &path).with_context(|| format!("copy {}", built.display()))?;
        check_static(&fs::read(&path)?, machine).with_context(|| format!("{}", built.display()))?;
        say(&format!("built the agent for {}: {bytes} bytes", machine.target()));
        Ok::<_, anyhow::Error>(Agent { path, bytes })
    };
    Ok(Agents { aarch64: agent(Machine::Aarch64)?, x86_64: agent(Machine::X86_64)? })
}

/// The folder with cargo-zigbuild and Zig; installed when it is not there.
fn tools(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join(format!("zigbuild-{ZIGBUILD}-zig-{ZIG}"));
    // Written last, so that an interrupted installation is begun anew.
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    say(&format!("installing cargo-zigbuild {ZIGBUILD} and Zig {ZIG} into {}", folder.display()));
    need_venv()?;
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder), "", true)?;
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS).with_context(|| format!("write {}", requirements.display()))?;
    let mut install = Command::new(folder.join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]);
    run(install.args(["--require-hashes", "--requirement"]).arg(&requirements), "", true)
        .context("install cargo-zigbuild and Zig with pip: is its package index within reach?")?;
    fs::write(&complete, "").with_context(|| format!("write {}", complete.display()))?;
    Ok(folder)
}

/// Makes sure that Python can make virtual environments, installing that only where we may.
fn need_venv() -> Result<()> {
    let mut check = Command::new("python3");
    check.args(["-c", "import ensurepip, venv"]);
    if run(&check, "", true).is_ok() {
        return Ok(());
    }
    let missing = "Python 3 with its module venv is missing; install it (Debian: apt-get install python3-venv) \
                   and run this again";
    ensure!(rustix::process::geteuid().is_root() && Path::new("/usr/bin/apt-get").exists(), missing);
    say("installing python3-venv");
    let apt = |arguments: &[&str]| {
        run(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"), "", true)
    };
    apt(&["update", "-q"])
        .and_then(|_| apt(&["install", "-qy", "--no-install-recommends", "python3-venv"]))
        .context(missing)?;
    run(&check, "", true).context(missing).map(drop)
}

/// Makes sure that the toolchain has the source of the standard library.
fn standard_library(workspace: &Path) -> Result<()> {
    let mut ask = Command::new("rustc");
    ask.args(["--print", "sysroot"]).current_dir(workspace);
    let sysroot = run(&ask, "", true)?;
    if Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/Cargo.lock").exists() {
        return Ok(());
    }
    say("installing the source of Rust's standard library");
    let mut add = Command::new("rustup");
    add.args(["component", "add", "rust-src"]).current_dir(workspace);
    run(&add, "", true).map(drop).context(
        "the source of Rust's standard library is missing; install Rust with rustup and run \
         `rustup component add rust-src`",
    )
}

/// The folder for what cargo makes of the agent, the only one of its kind: what another toolchain made goes.
fn target_folder(workspace: &Path, cache: &Path) -> Result<PathBuf> {
    const PREFIX: &str = "agent-rustc-";
    let version = run(Command::new("rustc").arg("--version").current_dir(workspace), "", true)?;
    let version = version.split_whitespace().nth(1).context("rustc --version names a version")?;
    let folder = cache.join(format!("{PREFIX}{version}-zig-{ZIG}"));
    for entry in fs::read_dir(cache).with_context(|| format!("list {}", cache.display()))? {
        let path = entry?.path();
        let is_target = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        if is_target && (path != folder || size(&path)? > TARGET_BYTES_MAX) {
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(folder)
}

/// Bytes of all files in a folder.
fn size(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

fn compile(workspace: &Path, tools: &Path, target: &Path) -> Result<()> {
    say("building the agent as released; the first time takes some minutes");
    let found = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([tools.join("bin")].into_iter().chain(env::split_paths(&found)))?;
    let mut cargo = cargo(workspace);
    cargo.args([
        "zigbuild",
        "--locked",
        "--profile",
        "edge",
        "--package",
        "edge-agent",
        "--bin",
        "edge-agent",
    ]);
    cargo.args(MACHINES.iter().flat_map(|machine| ["--target", machine.target()]));
    cargo.args(STANDARD_LIBRARY);
    // Building the standard library is not stable; the toolchain is pinned, so what it does today it does always.
    cargo.env("RUSTC_BOOTSTRAP", "1");
    cargo.env("PATH", path).env("CARGO_TARGET_DIR", target).env("LIBSQLITE3_FLAGS", SQLITE_FLAGS.join(" "));
    // What these keep besides is bounded with the rest.
    cargo.env("ZIG_GLOBAL_CACHE_DIR", target.join("zig")).env("CARGO_ZIGBUILD_CACHE_DIR", target.join("zig"));
    cargo
        .env("RUSTFLAGS", RUST_FLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("CFLAGS", [C_FLAGS, ZSTD_FLAGS].concat().join(" "));
    match run(&cargo, "", false) {
        Ok(_) => Ok(()),
        Err(error) => {
            bail!("{error:#}; if the tools are at fault, remove {} to have them again", tools.display())
        }
    }
}
