//! As much of Markdown as the pages use: headings, links, fenced blocks.

use std::collections::BTreeMap;

use crate::{files_below, has_extension, read};

/// A page.
pub(crate) struct Page {
    /// From the root of the repository.
    pub(crate) path: String,
    /// Names that a link can have after its `#`.
    pub(crate) anchors: Vec<String>,
    pub(crate) links: Vec<Link>,
    pub(crate) blocks: Vec<Block>,
}

/// Where a link leads, and the line it stands in.
pub(crate) struct Link {
    pub(crate) line: usize,
    pub(crate) target: String,
}

/// A fenced block.
pub(crate) struct Block {
    /// The line of its first fence.
    pub(crate) line: usize,
    pub(crate) language: String,
    pub(crate) text: String,
}

/// Every page: those in docs, and those at the root and of the chart.
pub(crate) fn pages() -> Vec<Page> {
    let others = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "charts/metallb/README.md"];
    let docs = files_below("docs").into_iter().filter(|path| has_extension(path, "md"));
    docs.chain(others.map(str::to_owned)).map(|path| Page::parse(&path, &read(&path))).collect()
}

impl Page {
    pub(crate) fn parse(path: &str, text: &str) -> Page {
        let mut page = Page { path: path.to_owned(), anchors: Vec::new(), links: Vec::new(), blocks: Vec::new() };
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut lines = text.lines().enumerate();
        while let Some((index, line)) = lines.next() {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                let indent = line.len() - line.trim_start().len();
                let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
                let text: String = inside.map(|line| format!("{}\n", line.get(indent..).unwrap_or_default())).collect();
                page.blocks.push(Block { line: index + 1, language: language.to_owned(), text });
                continue;
            }
            if let Some(heading) = line.strip_prefix('#') {
                let slug = slug(heading.trim_start_matches('#').trim());
                let count = seen.entry(slug.clone()).or_default();
                page.anchors.push(if *count == 0 { slug } else { format!("{slug}-{count}") });
                *count += 1;
            }
            let targets = targets(line).into_iter();
            page.links.extend(targets.map(|target| Link { line: index + 1, target }));
        }
        page
    }
}

/// The name of a heading, as GitHub and mdbook make it.
fn slug(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading;
    // Of a link, the text counts.
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(before);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    text.push_str(rest);
    let letters = text.to_lowercase();
    let kept = letters.chars().filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
    kept.map(|it| if it == ' ' { '-' } else { it }).collect()
}

/// Where the links of a line lead; what is code is none.
fn targets(line: &str) -> Vec<String> {
    let prose: String = line.split('`').enumerate().filter(|(part, _)| part % 2 == 0).map(|(_, text)| text).collect();
    let after = prose.split("](").skip(1);
    after.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

#[test]
fn anchors_links_and_blocks_are_found() {
    let text = "# Title `x`\n\n## A (b), c\n\n## A (b), c\n[one](a.md#b) and `[no](link)` and [`two`](#three)\n\n\
                ```yaml\n[in](code)\n```\n";
    let page = Page::parse("p.md", text);
    assert_eq!(page.anchors, ["title-x", "a-b-c", "a-b-c-1"]);
    let links: Vec<_> = page.links.iter().map(|link| (link.line, link.target.as_str())).collect();
    assert_eq!(links, [(6, "a.md#b"), (6, "#three")]);
    let [block] = page.blocks.as_slice() else { panic!() };
    assert_eq!((block.line, block.language.as_str(), block.text.as_str()), (8, "yaml", "[in](code)\n"));
}
