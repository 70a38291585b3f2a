//! The glossary, read from `docs/glossary.md`, so that there is one text.

const PAGE: &str = include_str!("../../docs/glossary.md");

/// One term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The word.
    pub word: String,
    /// Its one meaning.
    pub meaning: String,
    /// Words not used for it.
    pub not: String,
}

/// All terms in page order; words that share a row have a term each.
pub fn terms() -> Vec<Term> {
    let mut terms = Vec::new();
    for line in PAGE.lines().filter(|line| line.starts_with("| **")) {
        let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
        let (Some(words), Some(meaning), not) =
            (cells.next(), cells.next(), cells.next().unwrap_or(""))
        else {
            continue;
        };
        for word in words.split(", ") {
            terms.push(Term {
                word: word.trim_matches('*').to_owned(),
                meaning: meaning.replace('`', ""),
                not: not.trim_matches('–').to_owned(),
            });
        }
    }
    terms
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_term_has_one_row() {
        let terms = terms();
        let words: BTreeSet<&str> = terms.iter().map(|term| term.word.as_str()).collect();
        assert_eq!(words.len(), terms.len());
        assert!(terms.len() > 80);
        assert!(terms.iter().all(|term| !term.meaning.is_empty()));
    }
}
