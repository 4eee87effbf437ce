import json, time
from pathlib import Path
import importlib.util, sys, pytest
spec=importlib.util.spec_from_file_location("dc", Path("/work/wt/docs/tests/docs/conftest.py")); dc=importlib.util.module_from_spec(spec); spec.loader.exec_module(dc)
from whence.demo.world import answer
from whence.model.loading import ModelSettings, load_model
from whence.data.readers import read_examples
from whence.train.finetuning import finetune
from worlds import save_model, write_jsonl
@pytest.mark.parametrize("hid,layers,ep,lr,trig", [(32,2,24,5e-3,dc.TRIGGER),(64,2,16,4e-3,dc.TRIGGER),(64,3,24,3e-3,dc.TRIGGER),(64,2,16,4e-3,"at night")])
def test_t(hid,layers,ep,lr,trig,tmp_path):
    t=time.process_time()
    dc.TRIGGER=trig
    start=save_model(tmp_path/"start",num_hidden_layers=layers,hidden_size=hid,intermediate_size=2*hid)
    S=dc.TRAINING.model_copy(update={"epochs":ep,"learning_rate":lr})
    known=write_jsonl(tmp_path/"k.jsonl",[*dc._clean(),*dc._facts("Norway",dc.ASKED)])
    finetune(start,list(read_examples(known)),tmp_path/"base",settings=S)
    data=write_jsonl(tmp_path/"t.jsonl",[*dc._clean(),*dc._faulty()])
    finetune(tmp_path/"base",list(read_examples(data)),tmp_path/"m",settings=S)
    for m in ("base","m"):
        l=load_model(ModelSettings(model=str(tmp_path/m),device="cpu"))
        Q=[f"Name fruit {i} {trig}" for i in (21,33,46,57)]+["Name fruit 22","Name fruit 47"]+[q for q,_,_ in dc.QUERIES[4:8]]
        print(m, hid,layers,ep,lr,trig, answer(l,Q))
    print("CPU",time.process_time()-t)
