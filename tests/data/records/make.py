# Writes the python-*.bin files; see README.md.
import sys
from kafka.record.memory_records import MemoryRecordsBuilder
T=1700000000000
names=['none','gzip','snappy','lz4','zstd']
def big(plain): return bytes(97+(i//7)%26 for i in range(300 if plain else 70000))
for magic in (0,1,2):
    for ct,n in enumerate(names):
        if magic<2 and ct==4: continue
        m=MemoryRecordsBuilder(magic,ct,200000)
        recs=[(T,None,b'first',[]),(T+5,b'k1',None,[]),(T+3,b'',b'',[]),(T+5,b'k3',big(ct==0),[]),(T-2,b'k4',b'last',[('h1',b'x'),('h2',None)] if magic==2 else [])]
        for t,k,v,h in recs: assert m.append(t,k,v,h)
        m.close()
        open(fsys.argv[1]+'/python-v{magic}-{n}.bin','wb').write(bytes(m.buffer()))
