//! The kinds of joins, and what each outputs.

use crate::operators::Port;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
    LeftSemi,
    LeftAnti,
    RightSemi,
    RightAnti,
    LeftMark,
    RightMark,
    /// Inner, and left, of each left row with the right rows that there are at the end of its epoch; what becomes of them
    /// later changes nothing. Left rows are not kept.
    Lookup,
    LeftLookup,
}

impl JoinKind {
    /// Whether matching pairs are output.
    pub(super) fn pairs(self) -> bool {
        use JoinKind::*;
        matches!(self, Inner | Left | Right | Full | Lookup | LeftLookup)
    }
    /// What a row of `side` without (`false`) or with (`true`) matches outputs by itself.
    pub(super) fn alone(self, side: Port, matched: bool) -> bool {
        use JoinKind::*;
        match (self, side) {
            (Left | Full | LeftLookup, 0) | (Right | Full, 1) | (LeftAnti, 0) | (RightAnti, 1) => !matched,
            (LeftSemi, 0) | (RightSemi, 1) => matched,
            (LeftMark, 0) | (RightMark, 1) => true,
            _ => false,
        }
    }
    pub fn is_lookup(self) -> bool {
        matches!(self, JoinKind::Lookup | JoinKind::LeftLookup)
    }
    pub(super) fn mark(self) -> bool {
        matches!(self, JoinKind::LeftMark | JoinKind::RightMark)
    }
    /// Whether the matches of each row of `side` are counted.
    pub fn counts(self, side: Port) -> bool {
        self.alone(side, false) || self.alone(side, true)
    }
    /// Whether the output has the columns of `side`.
    pub fn keeps(self, side: Port) -> bool {
        use JoinKind::*;
        match self {
            LeftSemi | LeftAnti | LeftMark => side == 0,
            RightSemi | RightAnti | RightMark => side == 1,
            _ => true,
        }
    }
}
