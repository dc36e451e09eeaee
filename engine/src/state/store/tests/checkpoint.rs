//! Blocks and manifests.

use super::*;

fn part(relation: RelationId, slot: u32, blocks: &[BlockId]) -> Part {
    Part { relation, worker: 0, node: RELATION_ROWS, slot, fingerprint: 7, blocks: blocks.to_vec() }
}

fn manifest(epoch: Epoch, parts: Vec<Part>) -> Manifest {
    Manifest { epoch, workers: 2, positions: vec![(STREAM, b"17".to_vec())], parts }
}

fn write(store: &Store, ids: std::ops::Range<i64>) -> BlockId {
    store.write_block(&rows(ids)).unwrap()
}

#[test]
fn a_manifest_and_its_blocks_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let written = {
        let store = open(dir.path());
        assert_eq!(store.newest_manifest(), None);
        let blocks: Vec<BlockId> = (0..5).map(|i| write(&store, i * 1_000..i * 1_000 + 1_000)).collect();
        let parts = vec![part(TABLE, 1, &[blocks[4], blocks[0]]), part(STREAM, 0, &blocks[1..4]), part(TABLE, 0, &[])];
        let mut manifest = manifest(9, parts);
        store.commit_manifest(&manifest).unwrap();
        manifest.parts.sort_by_key(|p| (p.relation, p.slot));
        assert_eq!(*store.newest_manifest().unwrap(), manifest);
        manifest
    };
    let store = open(dir.path());
    store.collect_garbage().unwrap();
    assert_eq!(*store.newest_manifest().unwrap(), written);
    let blocks = &written.parts[2].blocks;
    assert_eq!(store.read_block(blocks[0]).unwrap(), rows(4_000..5_000));
    assert_eq!(store.read_block(blocks[1]).unwrap(), rows(0..1_000));
    assert!(write(&store, 0..1) > *written.parts.iter().flat_map(|p| &p.blocks).max().unwrap());
}

#[test]
fn what_the_next_manifest_does_not_name_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let b: Vec<BlockId> = (0..6).map(|i| write(&store, i..i + 1)).collect();
    let gone = |id: BlockId| store.read_block(id).is_err();
    store
        .commit_manifest(&manifest(
            1,
            vec![part(STREAM, 0, &b[0..2]), part(STREAM, 1, &b[2..3]), part(TABLE, 0, &b[3..4])],
        ))
        .unwrap();
    // Part 0 grows, a block moves from a part that goes to a new one, the last part is dropped.
    store.commit_manifest(&manifest(2, vec![part(STREAM, 0, &[b[0], b[4]]), part(STREAM, 2, &b[2..3])])).unwrap();
    assert_eq!(b.iter().map(|id| gone(*id)).collect::<Vec<_>>(), [false, true, false, true, false, false]);
    drop(store);
    let store = open(dir.path());
    let gone = |id: BlockId| store.read_block(id).is_err();
    assert_eq!(
        *store.newest_manifest().unwrap(),
        manifest(2, vec![part(STREAM, 0, &[b[0], b[4]]), part(STREAM, 2, &b[2..3])])
    );
    // Block 5 was never named.
    store.collect_garbage().unwrap();
    assert_eq!(b.iter().map(|id| gone(*id)).collect::<Vec<_>>(), [false, true, false, true, false, true]);
    store.commit_manifest(&manifest(3, vec![])).unwrap();
    assert!(b.iter().all(|id| gone(*id)));
}

#[test]
fn an_abandoned_checkpoint_can_be_discarded() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (kept, left) = (write(&store, 0..1), write(&store, 1..2));
    store.commit_manifest(&manifest(1, vec![part(STREAM, 0, &[kept])])).unwrap();
    store.discard_blocks(&[left]).unwrap();
    assert!(store.read_block(left).is_err() && store.read_block(kept).is_ok());
}

#[test]
fn large_batches_become_several_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ids = store.write_blocks(&rows(0..150_000)).unwrap();
    assert_eq!(ids.len(), 3);
    assert_eq!(join(ids.iter().map(|id| store.read_block(*id).unwrap())), rows(0..150_000));
}

#[test]
fn blocks_are_written_from_several_threads() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()));
    let threads: Vec<_> = (0..4)
        .map(|t| {
            let store = store.clone();
            std::thread::spawn(move || (0..50).map(|i| (write(&store, t * i..t * i + 9), t * i)).collect::<Vec<_>>())
        })
        .collect();
    let written: Vec<(BlockId, i64)> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    for (id, start) in &written {
        assert_eq!(store.read_block(*id).unwrap(), rows(*start..*start + 9));
    }
    store
        .commit_manifest(&manifest(1, vec![part(STREAM, 0, &written.iter().map(|w| w.0).collect::<Vec<_>>())]))
        .unwrap();
    store.collect_garbage().unwrap();
    assert!(written.iter().all(|(id, _)| store.read_block(*id).is_ok()));
}
