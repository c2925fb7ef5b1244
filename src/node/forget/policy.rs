//! What is asked for as text, as the policy that it means.

use crate::node::report::{ForgetRequest, KeepOptions};
use crate::repo::names::inert;
use crate::repo::retain::{Candidate, GroupBy, Policy, Quota, Span, TagList};

/// What is forgotten.
pub(super) enum Options {
    /// What was named.
    These,
    /// What a policy does not keep.
    Policy {
        /// The policy.
        policy: Box<Policy>,
        /// To what it is applied, each by itself.
        by: GroupBy,
        /// Of which snapshots.
        filter: Filter,
    },
}

/// Which snapshots the policy sees.
#[derive(Debug, Default)]
pub(super) struct Filter {
    hosts: Vec<String>,
    tags: Vec<TagList>,
    paths: Vec<Vec<u8>>,
}

impl Filter {
    /// By host and tags. Of a snapshot whose paths are cut it is not known yet whether
    /// [it is of these](Self::names).
    pub(super) fn admits(&self, candidate: &Candidate) -> bool {
        let has = |tags: &TagList| tags.0.iter().all(|tag| is_tagged(candidate, tag));
        (self.hosts.is_empty() || self.hosts.contains(&candidate.host))
            && (self.tags.is_empty() || self.tags.iter().any(has))
    }

    /// By paths, all of which have to be known.
    pub(super) fn names(&self, candidate: &Candidate) -> bool {
        self.paths.iter().all(|path| candidate.roots.contains(path))
    }

    /// Whether paths matter.
    pub(super) fn has_paths(&self) -> bool {
        !self.paths.is_empty()
    }

    /// What to say of paths that none of these snapshots is of: each is perhaps misspelt.
    pub(super) fn unmatched<'a>(
        &self,
        candidates: impl Iterator<Item = &'a Candidate> + Clone,
    ) -> Vec<String> {
        let is_none =
            |path: &&Vec<u8>| !candidates.clone().any(|candidate| candidate.roots.contains(path));
        let told = |path: &Vec<u8>| {
            format!(
                "no snapshot that the other options leave is of {}: `quloud snapshots` shows what \
                 each is of",
                inert(path)
            )
        };
        self.paths.iter().filter(is_none).map(told).collect()
    }
}

/// A path as snapshots name what was backed up: from the root, no slash at the end, none twice.
fn recorded(path: &str) -> Result<Vec<u8>, String> {
    let names = path.split('/').filter(|name| !["", "."].contains(name));
    let names: Vec<&str> = names.collect();
    if !path.starts_with('/') || names.contains(&"..") {
        let path = inert(path.as_bytes());
        return Err(format!("--path {path}: a path from the root without .. is needed"));
    }
    Ok(format!("/{}", names.join("/")).into_bytes())
}

/// An empty tag means to have none.
fn is_tagged(candidate: &Candidate, tag: &String) -> bool {
    if tag.is_empty() { candidate.tags.is_empty() } else { candidate.tags.contains(tag) }
}

/// Reads what was asked for.
///
/// # Errors
/// Why it cannot be understood.
pub(super) fn options(request: &ForgetRequest) -> Result<Options, String> {
    if !request.snapshots.is_empty() {
        let ForgetRequest { keep, group_by, hosts, tags, paths, .. } = request;
        let filtered =
            group_by.is_some() || ![hosts, tags, paths].iter().all(|list| list.is_empty());
        if *keep != KeepOptions::default() || filtered {
            return Err("a policy and its filters do not go with snapshots by name".to_owned());
        }
        return Ok(Options::These);
    }
    let by = match &request.group_by {
        None => GroupBy::default(),
        Some(text) => GroupBy::parse(text).map_err(|fault| told("--group-by", text, &fault))?,
    };
    let lists = |texts: &[String]| texts.iter().map(|text| TagList::parse(text)).collect();
    let filter = Filter {
        hosts: request.hosts.clone(),
        tags: lists(&request.tags),
        paths: request.paths.iter().map(|path| recorded(path)).collect::<Result<_, _>>()?,
    };
    Ok(Options::Policy { policy: Box::new(policy(&request.keep)?), by, filter })
}

fn policy(keep: &KeepOptions) -> Result<Policy, String> {
    let quota = |name: &str, text: &Option<String>| match text {
        None => Ok(Quota::None),
        Some(text) => Quota::parse(text).map_err(|fault| told(name, text, &fault)),
    };
    let span = |name: &str, text: &Option<String>| match text {
        None => Ok(Span::default()),
        Some(text) => Span::parse(text).map_err(|fault| told(name, text, &fault)),
    };
    Ok(Policy {
        last: quota("--keep-last", &keep.last)?,
        hourly: quota("--keep-hourly", &keep.hourly)?,
        daily: quota("--keep-daily", &keep.daily)?,
        weekly: quota("--keep-weekly", &keep.weekly)?,
        monthly: quota("--keep-monthly", &keep.monthly)?,
        yearly: quota("--keep-yearly", &keep.yearly)?,
        within: span("--keep-within", &keep.within)?,
        within_hourly: span("--keep-within-hourly", &keep.within_hourly)?,
        within_daily: span("--keep-within-daily", &keep.within_daily)?,
        within_weekly: span("--keep-within-weekly", &keep.within_weekly)?,
        within_monthly: span("--keep-within-monthly", &keep.within_monthly)?,
        within_yearly: span("--keep-within-yearly", &keep.within_yearly)?,
        tags: keep.tags.iter().map(|text| TagList::parse(text)).collect(),
    })
}

fn told(name: &str, text: &str, fault: &impl std::fmt::Display) -> String {
    format!("{name} {}: {fault}", inert(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::types::SnapshotId;

    fn keep(last: &str) -> KeepOptions {
        KeepOptions { last: Some(last.to_owned()), ..KeepOptions::default() }
    }

    #[test]
    fn options_are_read_or_named_with_what_is_wrong() {
        let request = ForgetRequest { keep: keep("3"), ..ForgetRequest::default() };
        let Ok(Options::Policy { policy, by, .. }) = options(&request) else { panic!("a policy") };
        assert_eq!((policy.last, by), (Quota::of(3), GroupBy::default()));
        for (request, name) in [
            (ForgetRequest { keep: keep("three"), ..request.clone() }, "--keep-last three"),
            (ForgetRequest { group_by: Some("x".to_owned()), ..request.clone() }, "--group-by x"),
            (ForgetRequest { snapshots: vec!["ab".to_owned()], ..request.clone() }, "by name"),
        ] {
            let Err(why) = options(&request) else { panic!("it is refused") };
            assert!(why.contains(name), "{why}");
        }
        let named = ForgetRequest { snapshots: vec!["ab".to_owned()], ..ForgetRequest::default() };
        assert!(matches!(options(&named), Ok(Options::These)));
    }

    #[test]
    fn filters_leave_what_all_of_them_admit() {
        let candidate = Candidate {
            id: SnapshotId::from_bytes([0; 32]),
            created_ns: 0,
            utc_offset_min: 0,
            host: "attic".to_owned(),
            roots: vec![b"/a".to_vec(), b"/b".to_vec()],
            roots_cut: false,
            tags: vec!["x".to_owned(), "y".to_owned()],
        };
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let admits = |hosts: &[&str], tags: &[&str], paths: &[&str]| {
            let (hosts, tags, paths) = (texts(hosts), texts(tags), texts(paths));
            let keep = keep("1");
            let request = ForgetRequest { keep, hosts, tags, paths, ..ForgetRequest::default() };
            let Ok(Options::Policy { filter, .. }) = options(&request) else { panic!("a policy") };
            filter.admits(&candidate) && filter.names(&candidate)
        };
        assert!(admits(&[], &[], &[]) && admits(&["cellar", "attic"], &["z", "x,y"], &["/b"]));
        assert!(!admits(&["cellar"], &[], &[]));
        assert!(!admits(&[], &["x,z"], &[]) && !admits(&[], &[""], &[]));
        assert!(!admits(&[], &[], &["/a", "/c"]));
        assert!(admits(&[], &[], &["/a/", "//b/./"]));
    }

    #[test]
    fn paths_are_meant_as_snapshots_name_them() {
        for (path, name) in [("/a/b", "/a/b"), ("/a/b//", "/a/b"), ("/./a/./b", "/a/b"), ("/", "/")]
        {
            assert_eq!(recorded(path).as_deref(), Ok(name.as_bytes()), "{path}");
        }
        for path in ["", "a", "./a", "/a/../b", ".."] {
            assert!(recorded(path).is_err(), "{path}");
        }
    }
}
