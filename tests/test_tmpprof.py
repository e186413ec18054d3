import cProfile, pstats, time, sys
import jax, numpy as np
from tests.contracts.test_forecasters import *
def test_prof(tmp_path, capsys):
    c = examples(tmp_path/"c")
    for name in ("lstm","cnn_gru"):
        r = forecaster(name)
        with capsys.disabled():
            for k in range(2):
                t=time.time(); f=r.fit(c, split(), KEY); print(name,"fit",round(time.time()-t,2), f.cost)
            t=time.time(); numbers(f,c); print("numbers",round(time.time()-t,2))
            p=cProfile.Profile(); p.enable(); r.fit(c, split(), KEY); p.disable()
            pstats.Stats(p,stream=sys.stdout).sort_stats("cumtime").print_stats(60)
            pstats.Stats(p,stream=sys.stdout).sort_stats("tottime").print_stats(15)
