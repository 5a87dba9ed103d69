import copy
import pickle

import numpy as np
import pytest

from snnkit.data import InMemory, Part, TimeMask, spike_events
from snnkit.data.dataset import Dataset
from snnkit.data.sampler import EpochIndex
from tests.data.recordings import MadeFrames

MASK = TimeMask(3, 1.0)


def everything(dataset):
    return [(sample.tolist(), label) for sample, label in dataset]


def test_a_sample_depends_on_seed_epoch_and_index_alone():
    dataset = MadeFrames(transform=MASK)
    whole = everything(dataset)
    assert [(dataset[i][0].tolist(), dataset[i][1]) for i in (5, 0, 3)] == [whole[5], whole[0], whole[3]]
    dataset.set_epoch(1)
    assert everything(dataset) != whole
    dataset.set_epoch(0)
    assert everything(dataset) == whole


def test_the_epoch_of_an_index_beats_that_of_the_data_set():
    dataset, later = MadeFrames(transform=MASK), MadeFrames(transform=MASK)
    later.set_epoch(7)
    for i in range(len(dataset)):
        assert dataset[EpochIndex(i, 7)][0].tolist() == later[i][0].tolist()
        copied = pickle.loads(pickle.dumps(EpochIndex(i, 7)))
        assert (copied, copied.epoch) == (i, 7) and copy.deepcopy(copied).epoch == 7


def test_indices_count_from_the_end_and_stop_there():
    dataset = MadeFrames(6, transform=MASK)
    assert dataset[-1][0].tolist() == dataset[5][0].tolist() and len(list(dataset)) == 6
    for index in (6, -7):
        with pytest.raises(IndexError, match="has 6 samples"):
            dataset[index]


def test_an_error_in_a_transform_names_the_data_set_and_the_sample():
    def fail(sample):
        raise ValueError("too many spikes")

    with pytest.raises(ValueError, match=r"MadeFrames\(6 samples, 3 classes\), sample 4: too many spikes"):
        MadeFrames(transform=fail)[4]


def test_a_part_has_the_samples_labels_and_speakers_of_its_indices():
    dataset = MadeFrames(6)
    part = Part(dataset, [4, 1])
    assert everything(part) == [everything(dataset)[4], everything(dataset)[1]]
    assert part.labels.tolist() == dataset.labels[[4, 1]].tolist() and part.speakers.tolist() == [0, 1]
    assert part.classes == dataset.classes and len(part) == 2


def test_training_can_be_augmented_while_validation_on_the_same_set_is_not():
    dataset = MadeFrames(6)
    train, valid = Part(dataset, [0, 2, 3], transform=MASK), Part(dataset, [1, 4, 5])
    assert train.draws and not valid.draws
    assert everything(train) != [everything(dataset)[i] for i in (0, 2, 3)]
    assert everything(valid) == [everything(dataset)[i] for i in (1, 4, 5)]


def test_the_epoch_reaches_a_random_set_through_its_part():
    part = Part(MadeFrames(transform=MASK), [0, 1, 2])
    first = everything(part)
    part.set_epoch(3)
    assert part.draws and everything(part) != first


def test_impossible_parts_are_refused():
    with pytest.raises(ValueError, match="Index 6 is not in"):
        Part(MadeFrames(6), [0, 6])
    with pytest.raises(ValueError, match="Both the data set and its part"):
        Part(MadeFrames(transform=MASK), [0], transform=MASK)


def test_memory_keeps_counts_small_and_cannot_be_changed_by_a_transform():
    for largest, dtype in ((255, np.uint8), (256, np.uint16), (70_000, np.int32)):
        stored = InMemory(MadeFrames(largest=largest, samples=30))
        assert max(sample.dtype.itemsize for sample, _ in stored) == np.dtype(dtype).itemsize
        assert everything(stored) == everything(MadeFrames(largest=largest, samples=30))

    def spoil(sample):
        sample += 1
        return sample

    spoiled = InMemory(MadeFrames(), transform=spoil)
    assert everything(spoiled) == everything(spoiled)
    assert spoiled.nbytes == sum(sample.nbytes for sample, _ in spoiled)


def test_memory_applies_its_random_transform_at_each_epoch():
    stored = InMemory(MadeFrames(), transform=MASK)
    first = everything(stored)
    stored.set_epoch(1)
    assert everything(stored) != first and stored.speakers is not None


def test_memory_refuses_to_freeze_a_random_draw():
    with pytest.raises(ValueError, match=r"InMemory would freeze one draw.*InMemory\(..., transform=...\)"):
        InMemory(MadeFrames(transform=MASK))
    with pytest.raises(TypeError, match="takes a data set of snnkit.data, got list"):
        InMemory([1, 2])


def test_events_are_kept_as_they_are():
    class Events(Dataset):
        def stored(self, index, epoch=0):
            return spike_events(np.arange(3) / 10, np.arange(3))

    stored = InMemory(Events(np.zeros(2), ["a"]))
    assert stored[1][0].dtype.names == ("t", "x")


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_copy_has_the_epoch_of_its_original_and_then_its_own(copied):
    dataset = MadeFrames(transform=MASK)
    dataset.set_epoch(4)
    other = copied(dataset)
    assert other.epoch == 4 and everything(other) == everything(dataset)
    other.set_epoch(9)
    assert (dataset.epoch, other.epoch) == (4, 9) and everything(other) != everything(dataset)


def test_an_epoch_is_a_whole_number():
    with pytest.raises(TypeError, match="float"):
        MadeFrames().set_epoch(1.5)


def test_a_transform_that_cannot_be_called_is_refused_before_the_first_sample():
    for make in (MadeFrames, lambda transform: InMemory(MadeFrames(), transform), lambda t: Part(MadeFrames(), [0], t)):
        with pytest.raises(TypeError, match="transform must be None or something to call with a sample, got 5"):
            make(transform=5) if make is MadeFrames else make(5)
