//! Links lead to something that is in the site, and every page can be found from its contents.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use crate::markdown::{Link, Page, pages};
use crate::{files_below, has_extension, read, root};

/// Files outside of docs that are part of the site.
fn others() -> BTreeSet<String> {
    let script = read("scripts/docs.sh");
    let list = script.split_once("others=(").unwrap().1.split_once(')').unwrap().0.to_owned();
    list.split_whitespace().map(str::to_owned).collect()
}

/// A path without `.` and `..`; `None` where it leaves the repository.
fn resolve(page: &str, target: &str) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in Path::new(page).parent()?.join(target).components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?.to_owned()),
            Component::ParentDir => drop(parts.pop()?),
            _ => {}
        }
    }
    Some(parts.join("/"))
}

/// What is wrong with a link.
fn fault(page: &Page, link: &Link, pages: &[Page], others: &BTreeSet<String>) -> Option<String> {
    if link.target.starts_with("https://") {
        return None;
    }
    let (file, anchor) = link.target.split_once('#').unwrap_or((&link.target, ""));
    let path = if file.is_empty() { page.path.clone() } else { resolve(&page.path, file)? };
    let path = if root().join(&path).is_dir() { format!("{path}/README.md") } else { path };
    if !root().join(&path).is_file() {
        return Some(format!("there is no {path}"));
    }
    if !path.starts_with("docs/") && !others.contains(&path) {
        return Some(format!("{path} is not in the site; name it, or add it to scripts/docs.sh"));
    }
    let there = pages.iter().find(|page| page.path == path);
    let has_anchor = anchor.is_empty() || there.is_some_and(|page| page.anchors.iter().any(|it| it == anchor));
    (!has_anchor).then(|| format!("{path} has no heading #{anchor}"))
}

#[test]
fn every_link_leads_somewhere() {
    let (pages, others) = (pages(), others());
    let mut faults = Vec::new();
    for page in &pages {
        for link in &page.links {
            let fault = fault(page, link, &pages, &others);
            faults.extend(fault.map(|fault| format!("{}:{}: {}: {fault}", page.path, link.line, link.target)));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(pages.iter().map(|page| page.links.len()).sum::<usize>() > 100, "links are not found");
}

#[test]
fn the_contents_have_every_page_once() {
    let contents = Page::parse("docs/SUMMARY.md", &read("docs/SUMMARY.md"));
    let listed: Vec<String> =
        contents.links.iter().map(|link| resolve("docs/SUMMARY.md", &link.target).unwrap()).collect();
    let mut sorted = listed.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), listed.len(), "a page is listed twice");
    let is_page = |path: &String| has_extension(path, "md") && path != "docs/SUMMARY.md";
    let expected = files_below("docs").into_iter().chain(others());
    let expected: BTreeSet<String> = expected.filter(is_page).collect();
    assert_eq!(sorted.into_iter().collect::<BTreeSet<_>>(), expected);
}
