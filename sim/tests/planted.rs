//! Mistakes that are planted on purpose: none is in a build that was not made for it.

use std::collections::BTreeSet;

use protocol::planted::Bug;

#[test]
fn no_mistake_is_planted_in_this_build() {
    assert!(Bug::ALL.iter().all(|bug| !bug.is_planted()));
}

#[test]
fn each_has_a_number_and_a_sentence_of_its_own() {
    let numbers: BTreeSet<u32> = Bug::ALL.iter().map(|bug| bug.number()).collect();
    let names: BTreeSet<String> = Bug::ALL.iter().map(|bug| format!("{bug:?}")).collect();
    let sentences: BTreeSet<&str> = Bug::ALL.iter().map(|bug| bug.about()).collect();
    assert!(numbers.len() >= 25 && !numbers.contains(&0), "{numbers:?}");
    assert_eq!([names.len(), sentences.len(), Bug::ALL.len()], [numbers.len(); 3]);
    assert!(sentences.iter().all(|text| text.ends_with('.')), "{sentences:?}");
}
