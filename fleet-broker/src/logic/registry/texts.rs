//! Several texts in one piece of memory.

/// Texts that are kept together: each by itself would cost a pointer, a length, and what the allocator adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Texts<Ends> {
    joined: Box<str>,
    /// Where each of them ends.
    ends: Ends,
}

impl<Ends: AsRef<[u32]> + TryFrom<Vec<u32>>> Texts<Ends> {
    /// # Panics
    /// When there are other than as many as there are ends for, or 4 GiB of them.
    pub(super) fn new(texts: &[&str]) -> Self {
        let mut end = 0;
        let ends = texts.iter().map(|text| {
            end += text.len();
            u32::try_from(end).expect("texts of one object are shorter than 4 GiB")
        });
        let Ok(ends) = ends.collect::<Vec<u32>>().try_into() else {
            panic!("there are more or fewer texts than there is room for")
        };
        Texts { joined: texts.concat().into(), ends }
    }

    pub(super) fn len(&self) -> usize {
        self.ends.as_ref().len()
    }

    pub(super) fn at(&self, index: usize) -> &str {
        let end = |index: usize| usize::try_from(self.ends.as_ref()[index]).expect("memory holds it");
        let start = index.checked_sub(1).map_or(0, end);
        &self.joined[start..end(index)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_found_as_it_was() {
        for texts in [["", "", ""], ["radio", "", "Größe"], ["", "a\0b", ""]] {
            let fixed = Texts::<[u32; 3]>::new(&texts);
            let growing = Texts::<Box<[u32]>>::new(&texts);
            assert_eq!([0, 1, 2].map(|index| fixed.at(index)), texts);
            assert_eq!([0, 1, 2].map(|index| growing.at(index)), texts);
            assert_eq!([fixed.len(), growing.len()], [3, 3]);
        }
    }

    #[test]
    #[should_panic(expected = "more or fewer texts")]
    fn there_are_no_more_than_there_is_room_for() {
        drop(Texts::<[u32; 2]>::new(&["a", "b", "c"]));
    }
}
