//! Owns made-up input: changes of good input, drawn from a seed.

use crate::sim::rng::Rng;

/// Numbers at which programs stumble, big-endian.
const EXTREMES: [&[u8]; 14] = [
    &[0, 0],
    &[0x7f, 0xff],
    &[0x80, 0],
    &[0xff, 0xff],
    &[0, 0, 0, 0],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x80, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff, 7],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0xff; 10],
    &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x80, 0, 0, 0, 0, 0, 0, 0],
    &[0xff; 8],
];

/// Draws inputs.
pub struct Mutator<'a> {
    rng: Rng,
    seeds: &'a [Vec<u8>],
    len_max: usize,
}

impl<'a> Mutator<'a> {
    /// Inputs of at most `len_max` bytes that begin as one of the seeds did.
    pub fn new(seed: u64, seeds: &'a [Vec<u8>], len_max: usize) -> Mutator<'a> {
        Mutator { rng: Rng::new(seed), seeds, len_max }
    }

    /// The next input.
    pub fn draw(&mut self) -> Vec<u8> {
        let mut bytes = self.rng.pick(self.seeds).cloned().unwrap_or_default();
        for _ in 0..1 << self.rng.below(4) {
            self.change(&mut bytes);
        }
        bytes.truncate(self.len_max);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let rng = &mut self.rng;
        if bytes.is_empty() {
            bytes.push(rng.next_u64() as u8);
        }
        let at = rng.index(bytes.len());
        let most = 1 << rng.below(7);
        let end = (at + 1 + rng.index(most)).min(bytes.len());
        match rng.below(12) {
            0 | 1 => bytes[at] ^= 1 << rng.below(8),
            2 => bytes[at] = rng.next_u64() as u8,
            3 | 4 => {
                let extreme = EXTREMES[rng.index(EXTREMES.len())];
                let end = bytes.len().min(at + extreme.len());
                bytes.splice(at..end, extreme.iter().copied());
            }
            5 => bytes[at] = bytes[at].wrapping_add([1, 2, 0xff, 0xfe, 16][rng.index(5)]),
            6 => drop(bytes.drain(at..end)),
            7 => {
                let mut more = vec![0; end - at];
                if rng.chance(70) {
                    rng.fill(&mut more);
                }
                bytes.splice(at..at, more);
            }
            8 => {
                let part = bytes[at..end].to_vec();
                let to = rng.index(bytes.len());
                bytes.splice(to..to, part);
            }
            9 => bytes.truncate(at),
            10 => {
                let other = rng.pick(self.seeds).cloned().unwrap_or_default();
                let from = rng.index(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                let to = rng.index(bytes.len());
                bytes.swap(at, to);
            }
        }
    }
}

#[test]
fn the_same_seed_draws_the_same_inputs_and_most_differ_from_what_they_began_with() {
    let seeds = vec![b"first seed".to_vec(), vec![7; 300], Vec::new()];
    let draw = |seed| {
        let mut mutator = Mutator::new(seed, &seeds, 200);
        (0..500).map(|_| mutator.draw()).collect::<Vec<_>>()
    };
    let inputs = draw(1);
    assert_eq!(inputs, draw(1));
    assert_ne!(inputs, draw(2));
    assert!(inputs.iter().all(|input| input.len() <= 200));
    assert!(inputs.iter().filter(|input| !seeds.contains(input)).count() > 450);
}
