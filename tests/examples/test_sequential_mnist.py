"""``train_shd.py --dataset psmnist`` on a few pictures."""

from train_shd import Settings, build_model, load_data

from tests.data.idx import write_mnist
from tests.examples.scripts import finish, start


def test_the_network_of_the_set_is_built_for_its_pixels(tmp_path):
    write_mnist(tmp_path)
    data = load_data(Settings(dataset="psmnist", root=str(tmp_path), validation=0.2))
    assert [len(part) for part in data] == [48, 12, 20] and data.valid.batch([4, 2]).x.shape == (784, 2, 1)
    model = build_model(Settings(dataset="psmnist"), data)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 156_154


def test_a_missing_file_ends_in_one_line(tmp_path):
    code, _, err = finish(start(*"--cpu --dataset psmnist --root .".split(), cwd=tmp_path))
    assert code == 1 and "Neither train-images-idx3-ubyte nor train-images-idx3-ubyte.gz" in err
    assert len(err.strip().splitlines()) == 1
