import subprocess
import sys

PARTNERS = ("h5py", "sklearn", "tonic", "spikingjelly", "timm", "torchvision", "matplotlib", "platformdirs")


def test_data_loads_no_partner_before_it_is_used():
    code = f"import sys, snnkit.data; print([name for name in {PARTNERS} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    assert run.stdout.strip() == "[]"


def test_a_look_at_the_names_shows_the_interface_and_not_the_files():
    from snnkit import data

    assert dir(data) == sorted(data.__all__) and data.split_rule("given").name == "given"
