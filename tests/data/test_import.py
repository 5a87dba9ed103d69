import subprocess
import sys

PARTNERS = ("h5py", "sklearn", "tonic", "spikingjelly", "timm", "torchvision", "matplotlib", "platformdirs")


def test_data_loads_no_partner_before_it_is_used():
    code = f"import sys, snnkit.data; print([name for name in {PARTNERS} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    assert run.stdout.strip() == "[]"
