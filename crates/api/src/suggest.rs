//! "Did you mean": the known word that is closest to a misspelt one.

/// The candidate that differs least from `word`, if any is close: in at most a third of its letters, apart from upper
/// and lower case.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let limit = word.chars().count().div_ceil(3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many letters have to be added, removed, replaced or swapped with their neighbour to turn one word into the
/// other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    // Distances from the beginnings of `from` that end two letters ago, one letter ago and here, to all beginnings of
    // `to`.
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    let mut last_letter = None;
    for (row, letter) in from.chars().enumerate() {
        let mut current = vec![row.saturating_add(1)];
        for (column, other) in to.iter().enumerate() {
            let at = |line: &[usize], column: usize| line.get(column).copied().unwrap_or(usize::MAX);
            let replaced = at(&last, column).saturating_add(usize::from(letter != *other));
            let removed = at(&last, column.saturating_add(1)).saturating_add(1);
            let added = at(&current, column).saturating_add(1);
            let swapped = match column.checked_sub(1) {
                Some(before) if to.get(before) == Some(&letter) && last_letter == Some(*other) => {
                    at(&before_last, before).saturating_add(1)
                }
                _ => usize::MAX,
            };
            current.push(replaced.min(removed).min(added).min(swapped));
        }
        before_last = std::mem::replace(&mut last, current);
        last_letter = Some(letter);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_word_is_found_and_a_far_one_is_not() {
        let known = ["addresses", "autoAssign", "avoidBuggyIPs", "serviceAllocation"];
        let closest = |word| closest(word, known);
        assert_eq!(closest("adresses"), Some("addresses"));
        assert_eq!(closest("autoassign"), Some("autoAssign"));
        assert_eq!(closest("avoidBuggyIps"), Some("avoidBuggyIPs"));
        assert_eq!(closest("address"), Some("addresses"));
        assert_eq!(closest("protocol"), None);
        assert_eq!(closest(""), None);
    }

    #[test]
    fn a_swap_counts_as_one_change() {
        assert_eq!(distance("weigth", "weight"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
