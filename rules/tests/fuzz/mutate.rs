//! Deterministic mutations that know what the inputs look like: numbers, separators and whole fields are exchanged, so
//! that most of what comes out gets past the first check of a parser.

/// What stands between the parts of positions, moves and records.
const SEPARATORS: &[u8] = b";,:/-x@=\n\" ";
/// Values at which number parsers and bounds go wrong.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "4",
    "5",
    "18",
    "36",
    "60",
    "61",
    "63",
    "64",
    "00",
    "01",
    "-1",
    "255",
    "256",
    "360",
    "361",
    "468",
    "469",
    "65535",
    "65536",
    "4294967296",
    "99999999999999999999",
];
/// Bytes that mean something to a parser, and some that mean nothing to any.
const BYTES: &[u8] = b"PMCKRLOTEFS0123456789x@=,-;:/+alrtspnwAF\"{}[]\n \xc3\xff";
/// Longest input made: short inputs find as much, sooner.
const BYTES_MAX: usize = 6_000;

/// An endless, repeatable source of inputs.
pub struct Mutator {
    state: u64,
    corpus: Vec<Vec<u8>>,
}

impl Mutator {
    /// Mutates `corpus`, which is not empty.
    pub fn new(seed: u64, corpus: Vec<Vec<u8>>) -> Self {
        Self {
            state: seed,
            corpus,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) as u128 * bound as u128) >> 64) as usize
    }

    /// An input of the corpus with one to four changes.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.pick();
        for _ in 0..=self.below(4) {
            self.change(&mut input);
        }
        input.truncate(BYTES_MAX);
        input
    }

    fn pick(&mut self) -> Vec<u8> {
        let at = self.below(self.corpus.len());
        self.corpus[at].clone()
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        match self.below(8) {
            0 => self.change_byte(input),
            1 | 2 => {
                let number = NUMBERS[self.below(NUMBERS.len())];
                self.replace_part(input, number.as_bytes());
            }
            3 => {
                let donor = self.pick();
                let part = self.part(&donor);
                self.replace_part(input, &donor[part.clone()]);
            }
            4 => self.exchange_parts(input),
            5 => self.nudge_digit(input),
            6 => self.cut(input),
            _ => self.double(input),
        }
    }

    /// A stretch between two separators; empty where two of them meet.
    fn part(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let at = self.below(input.len() + 1);
        let is_separator = |byte: &u8| SEPARATORS.contains(byte);
        let start = input[..at]
            .iter()
            .rposition(is_separator)
            .map_or(0, |found| found + 1);
        let end = input[at..]
            .iter()
            .position(is_separator)
            .map_or(input.len(), |found| at + found);
        start..end
    }

    fn replace_part(&mut self, input: &mut Vec<u8>, by: &[u8]) {
        let part = self.part(input);
        input.splice(part, by.iter().copied());
    }

    fn exchange_parts(&mut self, input: &mut Vec<u8>) {
        let (one, other) = (self.part(input), self.part(input));
        let (first, second) = if one.start <= other.start {
            (one, other)
        } else {
            (other, one)
        };
        if first.end > second.start {
            return;
        }
        let (head, tail) = (
            input[first.clone()].to_vec(),
            input[second.clone()].to_vec(),
        );
        input.splice(second, head);
        input.splice(first, tail);
    }

    fn change_byte(&mut self, input: &mut Vec<u8>) {
        let (at, byte) = (self.below(input.len() + 1), BYTES[self.below(BYTES.len())]);
        match (self.below(3), at < input.len()) {
            (0, true) => input[at] = byte,
            (1, true) => {
                input.remove(at);
            }
            _ => input.insert(at, byte),
        }
    }

    /// A digit becomes its neighbour: cells next door, seats next in turn, scores that no longer add up.
    fn nudge_digit(&mut self, input: &mut [u8]) {
        let digits: Vec<usize> = (0..input.len())
            .filter(|&at| input[at].is_ascii_digit())
            .collect();
        if digits.is_empty() {
            return;
        }
        let at = digits[self.below(digits.len())];
        let step = if self.below(2) == 0 { 1 } else { 9 };
        input[at] = b'0' + (input[at] - b'0' + step) % 10;
    }

    fn cut(&mut self, input: &mut Vec<u8>) {
        let part = self.part(input);
        let end = (part.end + 1).min(input.len());
        input.drain(part.start..end);
    }

    fn double(&mut self, input: &mut Vec<u8>) {
        let part = self.part(input);
        let mut copy = input[part.clone()].to_vec();
        copy.push(SEPARATORS[self.below(SEPARATORS.len())]);
        input.splice(part.start..part.start, copy);
    }
}
