# Writes one rdkafka-*.bin file: a broker that answers just enough to be sent one Produce. Arguments: port, file, newest
# versions of Produce and Fetch to advertise. See README.md.
import socket,struct,sys,threading
port=int(sys.argv[1]); outfile=sys.argv[2]
s=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1); s.bind(('127.0.0.1',port)); s.listen(8)
print('ready',flush=True)
def st(x): return struct.pack('>h',len(x))+x
def rd(c,n):
    b=b''
    while len(b)<n:
        d=c.recv(n-len(b))
        if not d: raise EOFError
        b+=d
    return b
def serve(c):
  try:
    while True:
        n,=struct.unpack('>i',rd(c,4)); b=rd(c,n)
        api,ver,corr,cl=struct.unpack('>hhih',b[:10]); p=10+max(cl,0)
        if api==18:
            apis=[(0,0,int(sys.argv[3])),(1,0,int(sys.argv[4])),(2,0,1),(3,0,2),(10,0,0),(18,0,0)]
            err=0 if ver==0 else 35
            r=struct.pack('>hi',err,len(apis))+b''.join(struct.pack('>hhh',*a) for a in apis)
        elif api==3:
            r=struct.pack('>i',1)+struct.pack('>i',1)+st(b'127.0.0.1')+struct.pack('>i',port)
            if ver>=1: r+=struct.pack('>h',-1)
            if ver>=2: r+=struct.pack('>h',-1)
            if ver>=1: r+=struct.pack('>i',1)
            r+=struct.pack('>i',1)+struct.pack('>h',0)+st(b't')+(b'\0' if ver>=1 else b'')
            r+=struct.pack('>i',1)+struct.pack('>hii',0,0,1)+struct.pack('>ii',1,1)+struct.pack('>ii',1,1)
        elif api==0:
            if ver>=3:
                tl,=struct.unpack('>h',b[p:p+2]); p+=2+max(tl,0)
            p+=6+4; tl,=struct.unpack('>h',b[p:p+2]); p+=2+tl+4+4
            ln,=struct.unpack('>i',b[p:p+4]); rec=b[p+4:p+4+ln]
            print('produce v',ver,'magic',rec[16],'bytes',ln,flush=True)
            open(outfile,'wb').write(rec)
            r=struct.pack('>i',1)+st(b't')+struct.pack('>i',1)+struct.pack('>ihq',0,0,0)
            if ver>=2: r+=struct.pack('>q',-1)
            if ver>=5: r+=struct.pack('>q',0)
            if ver>=1: r+=struct.pack('>i',0)
        else:
            print('api',api,ver,flush=True); c.close(); return
        c.sendall(struct.pack('>ii',4+len(r),corr)+r)
  except (EOFError,ConnectionError): pass
while True:
    c,_=s.accept(); threading.Thread(target=serve,args=(c,),daemon=True).start()
