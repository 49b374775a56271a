//! Where manifests come from: files, folders as `kubectl apply -f` takes them, and standard input.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use protocol::limits;

/// All manifests of one bundle together: room for comments and spaces around the largest content.
const INPUT_BYTES: u64 = 2 * limits::PACK_BYTES;

/// The name under which standard input appears in messages.
const STANDARD_INPUT: &str = "standard input";

/// Text that holds manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceText {
    /// The file's path as it was given, or "standard input".
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// Manifests that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file or folder cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is no text.
    #[error("{0} is not UTF-8 text, so it holds no manifests")]
    NotText(String),
    /// A folder without manifests.
    #[error("{path} holds no *.yaml, *.yml or *.json{}", if *.folders { "; pass -R to look into its folders too" } else { "" })]
    Empty {
        /// Which folder.
        path: String,
        /// Whether there are folders in it that were not looked into.
        folders: bool,
    },
    /// A folder that another program renders.
    #[error(
        "{path} is the source of a {what}, not manifests; render it first: {command} | edgefleet bundle build - ..."
    )]
    Unrendered {
        /// Which folder.
        path: String,
        /// What it is.
        what: &'static str,
        /// What renders it.
        command: String,
    },
    /// More text than any bundle can hold.
    #[error("the manifests are larger than {} MiB together, more than one bundle can hold", INPUT_BYTES >> 20)]
    TooLarge,
}

/// Reads every source: `-` is `stdin`, a folder stands for its manifests, sorted by name.
pub fn read(
    sources: &[PathBuf],
    recursive: bool,
    stdin: &mut dyn Read,
) -> Result<Vec<SourceText>, SourceError> {
    let mut texts = Vec::new();
    let mut left = INPUT_BYTES;
    for source in sources {
        if source.as_os_str() == "-" {
            texts.push(text(STANDARD_INPUT.to_owned(), stdin, &mut left)?);
            continue;
        }
        for path in files(source, recursive)? {
            let name = path.display().to_string();
            let mut file = fs::File::open(&path).map_err(|source| cannot_read(&path, source))?;
            texts.push(text(name, &mut file, &mut left)?);
        }
    }
    Ok(texts)
}

fn text(name: String, reader: &mut dyn Read, left: &mut u64) -> Result<SourceText, SourceError> {
    let mut bytes = Vec::new();
    let read = reader.take(*left + 1).read_to_end(&mut bytes);
    read.map_err(|source| SourceError::Read { path: name.clone(), source })?;
    *left = left.checked_sub(bytes.len() as u64).ok_or(SourceError::TooLarge)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(SourceText { name, text }),
        Err(_) => Err(SourceError::NotText(name)),
    }
}

fn files(source: &Path, recursive: bool) -> Result<Vec<PathBuf>, SourceError> {
    let metadata = fs::metadata(source).map_err(|error| cannot_read(source, error))?;
    if !metadata.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    let (mut found, mut folders) = (Vec::new(), false);
    walk(source, recursive, &mut found, &mut folders)?;
    if found.is_empty() {
        return Err(SourceError::Empty {
            path: source.display().to_string(),
            folders: folders && !recursive,
        });
    }
    Ok(found)
}

/// Links to folders are not followed, so the walk ends.
fn walk(
    folder: &Path,
    recursive: bool,
    found: &mut Vec<PathBuf>,
    folders: &mut bool,
) -> Result<(), SourceError> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    let mut entries = entries.map_err(|source| cannot_read(folder, source))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        refuse_unrendered(folder, &path)?;
        let kind = entry.file_type().map_err(|source| cannot_read(&path, source))?;
        if kind.is_dir() {
            *folders = true;
            if recursive {
                walk(&path, recursive, found, folders)?;
            }
        } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json") {
            found.push(path);
        }
    }
    Ok(())
}

fn refuse_unrendered(folder: &Path, file: &Path) -> Result<(), SourceError> {
    let path = folder.display().to_string();
    let (what, command) = match file.file_name().and_then(|name| name.to_str()) {
        Some("kustomization.yaml" | "kustomization.yml" | "Kustomization") => {
            ("kustomization", format!("kubectl kustomize {path}"))
        }
        Some("Chart.yaml") => ("Helm chart", format!("helm template {path}")),
        _ => return Ok(()),
    };
    Err(SourceError::Unrendered { path, what, command })
}

fn cannot_read(path: &Path, source: io::Error) -> SourceError {
    SourceError::Read { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("# {name}")).unwrap();
        }
        folder
    }

    fn names(folder: &Path, recursive: bool) -> Result<Vec<String>, String> {
        let texts = read(&[folder.to_owned()], recursive, &mut io::empty());
        let texts = texts.map_err(|error| error.to_string().replace(&folder.display().to_string(), "DIR"))?;
        Ok(texts.into_iter().map(|text| text.text[2..].to_owned()).collect())
    }

    #[test]
    fn a_folder_stands_for_its_manifests() {
        let some = folder(&["b.yaml", "a.yml", "c.json", "README.md", "deep/d.yaml"]);
        assert_eq!(names(some.path(), false).unwrap(), ["a.yml", "b.yaml", "c.json"]);
        assert_eq!(names(some.path(), true).unwrap(), ["a.yml", "b.yaml", "c.json", "deep/d.yaml"]);
    }

    #[test]
    fn folders_without_manifests_say_what_to_do() {
        let cases: [(&[&str], &str); 4] = [
            (&["README.md"], "DIR holds no *.yaml, *.yml or *.json"),
            (&["deep/a.yaml"], "DIR holds no *.yaml, *.yml or *.json; pass -R to look into its folders too"),
            (&["kustomization.yaml"], "kubectl kustomize DIR | edgefleet bundle build -"),
            (&["Chart.yaml", "templates/a.yaml"], "helm template DIR | edgefleet bundle build -"),
        ];
        for (files, expected) in cases {
            let error = names(folder(files).path(), false).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn standard_input_is_one_source_among_others() {
        let some = folder(&["a.yaml"]);
        let texts =
            read(&["-".into(), some.path().join("a.yaml")], false, &mut "kind: x".as_bytes()).unwrap();
        assert_eq!(texts[0], SourceText { name: "standard input".to_owned(), text: "kind: x".to_owned() });
        assert_eq!(texts[1].text, "# a.yaml");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let some = tempfile::tempdir().unwrap();
        let error = read(&[some.path().join("gone.yaml")], false, &mut io::empty()).unwrap_err();
        assert!(error.to_string().ends_with("gone.yaml"), "{error}");
        let error = read(&["-".into()], false, &mut [0xff_u8].as_slice()).unwrap_err();
        assert_eq!(error.to_string(), "standard input is not UTF-8 text, so it holds no manifests");
        let error = read(&["-".into()], false, &mut io::repeat(b' ')).unwrap_err();
        assert!(error.to_string().contains("larger than 64 MiB"), "{error}");
    }
}
