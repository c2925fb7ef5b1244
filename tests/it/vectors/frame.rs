//! Frames and listings: good ones, and what must be refused.

use super::{Record, counted, freeze, read};
use quloud::core::types::{ChunkId, Locality};
use quloud::crypto::keys::ChunkKey;
use quloud::repo::frame::{self, FrameEncoder, FrameError, Kind, PLAINTEXT_BYTES_MAX, frame_bytes};
use quloud::repo::listing::{Listing, ListingBuilder, ListingError, TooManyChunks};
use quloud::repo::reference::ChunkRef;

const FILE: &str = "frame.txt";
const BAD_FILE: &str = "frame-bad.txt";

const INTRO: &str = "\
Quloud test vectors: frames and listings (PROTOCOL.md, sections \"Frame\" and \"Listing\").

frame-*: a plaintext and a frame that holds it. Writers are free in how they compress; a reader must
         take all of them.
size-*:  the length of the frame for a stored length.
listing: two pieces and the plaintext of their listing. piece = ck, id, locality, bytes.";

const BAD_INTRO: &str = "\
Quloud test vectors that must fail: frames and listings (PROTOCOL.md, sections \"Frame\" and
\"Listing\"). Each has a frame or a listing's plaintext, and the reason it is refused for.";

const TEXT: &[u8] = b"The quick brown fox jumps over the lazy dog";

/// A frame by hand. `stored` says what stands in the header; the padding is that of the real
/// length.
fn by_hand(front: [u8; 4], plaintext: u32, stored: u32, bytes: &[u8]) -> Vec<u8> {
    let length = padded(bytes.len()) - 40;
    let mut frame =
        [&front, plaintext.to_le_bytes().as_slice(), &stored.to_le_bytes(), bytes].concat();
    frame.resize(length, 0);
    frame
}

/// The sealed length for a stored length, in the words of the Padme paper.
fn padded(stored: usize) -> usize {
    let length = stored + 12 + 40;
    let e = (length as f64).log2().floor() as u32;
    let s = f64::from(e).log2().floor() as u32 + 1;
    let step = 1usize << (e - s);
    length.div_ceil(step) * step
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap()
}

/// One zstd frame by hand (RFC 8878): `count` (256 to 65,791) times one byte, as an RLE block.
fn zstd_run(byte: u8, count: u32) -> Vec<u8> {
    let magic = 0xfd2f_b528u32.to_le_bytes();
    let size = u16::try_from(count - 256).unwrap().to_le_bytes();
    let block = (count << 3 | 1 << 1 | 1).to_le_bytes();
    [magic.as_slice(), &[0x60], &size, &block[..3], &[byte]].concat()
}

fn frame_record(name: &str, kind: u8, plaintext: &[u8], frame: &[u8]) -> Record {
    Record::new(name).text("kind", kind).hex("plaintext", plaintext).hex("frame", frame)
}

fn encoded(kind: Kind, plaintext: &[u8]) -> Vec<u8> {
    FrameEncoder::new().encode(kind, plaintext).unwrap().to_vec()
}

fn pieces() -> [ChunkRef; 2] {
    [(1, 300_000), (2, 5)].map(|(number, bytes)| ChunkRef {
        ck: ChunkKey::from_bytes(counted(number)),
        id: ChunkId::from_bytes(counted(number + 0x40)),
        locality: Locality(0x1234),
        bytes,
    })
}

/// The plaintext of the listing of [`pieces`].
fn listing() -> Vec<u8> {
    let mut builder = ListingBuilder::new();
    let mut plaintext = Vec::new();
    let mut seal = |closed: quloud::repo::listing::ClosedListing| {
        plaintext = closed.plaintext.to_vec();
        let [first, _] = pieces();
        Ok::<_, TooManyChunks>(ChunkRef { bytes: closed.bytes, ..first })
    };
    for piece in pieces() {
        builder.add(&piece, &mut seal).unwrap();
    }
    builder.finish(&mut seal).unwrap();
    plaintext
}

fn records() -> Vec<Record> {
    let run = vec![b'a'; 1_000];
    let packed = zstd_run(b'a', 1_000);
    let mut all = vec![
        frame_record("frame-empty", 1, b"", &encoded(Kind::File, b"")),
        frame_record("frame-text", 1, TEXT, &encoded(Kind::File, TEXT)),
        frame_record("frame-listing", 2, TEXT, &encoded(Kind::Listing, TEXT)),
        frame_record(
            "frame-zstd",
            1,
            &run,
            &by_hand([1, 1, 1, 0], 1_000, length(&packed), &packed),
        ),
        frame_record("frame-raw-run", 1, &run, &by_hand([1, 1, 0, 0], 1_000, 1_000, &run)),
    ];
    for stored in [0, 1, 12, 13, 1_000, 65_536, 1 << 20, 3_333_333, PLAINTEXT_BYTES_MAX] {
        let record = Record::new(&format!("size-{stored}")).text("stored", stored);
        all.push(record.text("frame", frame_bytes(stored).unwrap()));
    }
    let record = pieces().iter().fold(Record::new("listing"), |record, piece| {
        let [ck, id] = [piece.ck.expose(), piece.id.as_bytes()].map(hex::encode);
        record.text("piece", format!("{ck} {id} {} {}", piece.locality.0, piece.bytes))
    });
    all.push(record.hex("plaintext", listing()));
    all
}

fn bad_frames() -> Vec<Record> {
    let (good, size) = (encoded(Kind::File, TEXT), length(TEXT));
    let packed = zstd_run(b'a', 1_000);
    let hand = |front, plaintext, stored, bytes: &[u8]| by_hand(front, plaintext, stored, bytes);
    let zstd = |plaintext, bytes: &[u8]| by_hand([1, 1, 1, 0], plaintext, length(bytes), bytes);
    let mut last_byte = good.clone();
    *last_byte.last_mut().unwrap() = 1;
    let mut after_stored = good.clone();
    after_stored[12 + TEXT.len()] = 1;
    let most = u32::try_from(PLAINTEXT_BYTES_MAX).unwrap();
    let mut magic = packed.clone();
    magic[0] ^= 1;
    [
        ("nothing", "short", vec![]),
        ("header-cut", "short", good[..11].to_vec()),
        ("version-0", "version", hand([0, 1, 0, 0], size, size, TEXT)),
        ("version-2", "version", hand([2, 1, 0, 0], size, size, TEXT)),
        ("kind-0", "kind", hand([1, 0, 0, 0], size, size, TEXT)),
        ("kind-5", "kind", hand([1, 5, 0, 0], size, size, TEXT)),
        ("kind-8", "kind", hand([1, 8, 0, 0], size, size, TEXT)),
        ("codec-2", "codec", hand([1, 1, 2, 0], size, size, TEXT)),
        ("reserved-1", "reserved", hand([1, 1, 0, 1], size, size, TEXT)),
        ("plaintext-too-long", "plaintext-length", hand([1, 1, 1, 0], most + 1, size, TEXT)),
        ("plaintext-4-GiB", "plaintext-length", hand([1, 1, 1, 0], u32::MAX, size, TEXT)),
        ("stored-above-frame", "stored-length", hand([1, 1, 0, 0], size, 1_000, TEXT)),
        ("stored-4-GiB", "stored-length", hand([1, 1, 0, 0], size, u32::MAX, TEXT)),
        ("raw-longer", "stored-length", hand([1, 1, 0, 0], size + 1, size, TEXT)),
        ("raw-shorter", "stored-length", hand([1, 1, 0, 0], size - 1, size, TEXT)),
        ("padding-left-out", "stored-length", good[..12 + TEXT.len()].to_vec()),
        ("padding-one-short", "stored-length", good[..good.len() - 1].to_vec()),
        ("padding-one-more", "stored-length", [good.as_slice(), &[0]].concat()),
        ("padding-not-zero", "padding", after_stored),
        ("padding-last-not-zero", "padding", last_byte),
        ("zstd-bomb", "decompress", zstd(100, &packed)),
        ("zstd-too-little", "decompress", zstd(1_001, &packed)),
        ("zstd-nothing", "decompress", zstd(1_000, b"")),
        ("zstd-cut", "decompress", zstd(1_000, &packed[..packed.len() - 1])),
        ("zstd-twice", "decompress", zstd(2_000, &packed.repeat(2))),
        ("zstd-and-more", "decompress", zstd(1_000, &[packed.as_slice(), &[0]].concat())),
        ("zstd-other-magic", "decompress", zstd(1_000, &magic)),
    ]
    .into_iter()
    .map(|(name, reason, bytes)| Record::new(name).text("reason", reason).hex("frame", bytes))
    .collect()
}

fn bad_listings() -> Vec<Record> {
    let good = listing();
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let no_entry = |level: u8| [&[1, level, 0, 0], [0; 12].as_slice()].concat();
    let (first, second) = (16 + 66, 16 + 74 + 66);
    let many = with(4, &8_193u32.to_le_bytes());
    [
        ("nothing", "length", vec![]),
        ("header-cut", "length", good[..15].to_vec()),
        ("entry-cut", "length", good[..good.len() - 1].to_vec()),
        ("one-byte-more", "length", [good.as_slice(), &[0]].concat()),
        ("count-too-low", "length", with(4, &[1])),
        ("count-too-high", "length", with(4, &[3])),
        ("version-0", "version", with(0, &[0])),
        ("version-2", "version", with(0, &[2])),
        ("level-4", "level", with(1, &[4])),
        ("scheme-1", "scheme", with(2, &[1])),
        ("reserved-1", "reserved", with(3, &[1])),
        ("too-many", "count", many),
        ("none-at-level-1", "count", no_entry(1)),
        ("entry-of-nothing", "entry-bytes", with(second, &[0])),
        ("piece-too-long", "entry-bytes", with(first, &4_194_253u64.to_le_bytes())),
        ("total-one-more", "total", with(8, &300_006u64.to_le_bytes())),
        ("total-zero", "total", with(8, &[0; 8])),
        ("total-overflows", "total", {
            let mut changed = with(1, &[1]);
            for at in [first, second] {
                changed[at..at + 8].copy_from_slice(&(i64::MAX as u64).to_le_bytes());
            }
            changed
        }),
    ]
    .into_iter()
    .map(|(name, reason, bytes)| {
        Record::new(&format!("listing-{name}")).text("reason", reason).hex("listing", bytes)
    })
    .collect()
}

#[test]
fn frames_and_listings_are_frozen() {
    freeze(FILE, INTRO, &records());
}

#[test]
fn bad_frames_and_listings_are_frozen() {
    freeze(BAD_FILE, BAD_INTRO, &[bad_frames(), bad_listings()].concat());
}

#[test]
fn every_frozen_frame_is_read() {
    for record in read(FILE).iter().filter(|record| record.name.starts_with("frame")) {
        let frame = frame::decode(record.bytes("frame")).unwrap();
        assert_eq!(frame.kind as u32, record.number("kind"), "{}", record.name);
        assert_eq!(frame.plaintext, record.bytes("plaintext"), "{}", record.name);
    }
}

#[test]
fn a_second_implementation_makes_the_same_frames_and_sizes() {
    for record in read(FILE) {
        if record.name.starts_with("size") {
            let (stored, frame) = (record.number("stored"), record.number("frame"));
            assert_eq!(padded(stored as usize), frame as usize + 40, "{}", record.name);
        } else if record.name.starts_with("frame") && record.name != "frame-zstd" {
            let (plaintext, kind) = (record.bytes("plaintext"), record.number("kind"));
            let kind = u8::try_from(kind).unwrap();
            let size = length(&plaintext);
            let made = by_hand([1, kind, 0, 0], size, size, &plaintext);
            assert_eq!(made, record.bytes("frame"), "{}", record.name);
        }
    }
}

#[test]
fn a_second_implementation_makes_the_same_listing() {
    let records = read(FILE);
    let record = records.iter().find(|record| record.name == "listing").unwrap();
    let (mut entries, mut total) = (Vec::new(), 0u64);
    for piece in record.all("piece") {
        let parts: Vec<&str> = piece.split(' ').collect();
        let [ck, id, locality, bytes] = parts.as_slice() else { panic!("{piece}") };
        let (locality, bytes) = (locality.parse::<u16>().unwrap(), bytes.parse::<u64>().unwrap());
        entries.extend([hex::decode(ck).unwrap(), hex::decode(id).unwrap()].concat());
        entries.extend([locality.to_le_bytes().as_slice(), &bytes.to_le_bytes()].concat());
        total += bytes;
    }
    let front = [[1, 0, 0, 0], 2u32.to_le_bytes()].concat();
    let made = [front.as_slice(), &total.to_le_bytes(), &entries].concat();
    assert_eq!(made, record.bytes("plaintext"));
    let read: Vec<u64> =
        Listing::root(made.into()).unwrap().map(|entry: ChunkRef| entry.bytes).collect();
    assert_eq!(read, [300_000, 5]);
}

#[test]
fn every_bad_frame_and_listing_fails_for_its_reason() {
    for record in read(BAD_FILE) {
        let why = if record.has("frame") {
            match frame::decode(record.bytes("frame")) {
                Ok(_) => "none",
                Err(FrameError::Short(_)) => "short",
                Err(FrameError::Version(_)) => "version",
                Err(FrameError::Kind(_)) => "kind",
                Err(FrameError::Codec(_)) => "codec",
                Err(FrameError::Reserved(_)) => "reserved",
                Err(FrameError::PlaintextLength(_)) => "plaintext-length",
                Err(FrameError::StoredLength { .. }) => "stored-length",
                Err(FrameError::Padding) => "padding",
                Err(FrameError::Decompress(_)) => "decompress",
            }
        } else {
            match Listing::root(record.bytes("listing").into()) {
                Ok(_) => "none",
                Err(ListingError::Length(_)) => "length",
                Err(ListingError::Version(_)) => "version",
                Err(ListingError::Scheme(_)) => "scheme",
                Err(ListingError::Reserved(_)) => "reserved",
                Err(ListingError::Level(_)) => "level",
                Err(ListingError::Count(_)) => "count",
                Err(ListingError::EntryBytes(_)) => "entry-bytes",
                Err(ListingError::Total(_)) => "total",
            }
        };
        assert_eq!(why, record.get("reason"), "{}", record.name);
    }
}
