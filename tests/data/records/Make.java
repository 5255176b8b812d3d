// Writes the java-*.bin files; see README.md.
import java.nio.ByteBuffer; import java.nio.file.*;
import org.apache.kafka.common.record.*; import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.*; import org.apache.kafka.common.header.internals.*;
import org.apache.kafka.common.utils.*;
public class Make {
  static byte[] big(boolean plain){ byte[] b=new byte[plain?300:70000]; for(int i=0;i<b.length;i++) b[i]=(byte)('a'+(i/7)%26); return b; }
  static byte[] b(String s){return s==null?null:s.getBytes();}
  static MemoryRecords make(byte magic, CompressionType ct, TimestampType tt, long base){
    Compression c=Compression.of(ct).build();
    MemoryRecordsBuilder m=MemoryRecords.builder(ByteBuffer.allocate(200000), magic, c, tt, base, tt==TimestampType.LOG_APPEND_TIME?1700000009999L:-1L);
    long t=1700000000000L; if(magic==0) t=-1;
    Header[] h = magic<2 ? org.apache.kafka.common.record.Record.EMPTY_HEADERS : new Header[]{new RecordHeader("h1", b("x")), new RecordHeader("h2", (byte[])null)};
    boolean z=magic==0;
    m.append(z?-1:t, null, b("first"));
    m.append(z?-1:t+5, b("k1"), null);
    m.append(z?-1:t+3, b(""), b(""));
    m.append(z?-1:t+5, b("k3"), big(ct==CompressionType.NONE));
    m.append(z?-1:t-2, b("k4"), b("last"), h);
    return m.build();
  }
  static void out(String d,String n,MemoryRecords r) throws Exception { ByteBuffer x=r.buffer().duplicate(); byte[] a=new byte[x.remaining()]; x.get(a); Files.write(Paths.get(d,n),a);}
  public static void main(String[] a) throws Exception {
    for(byte magic=0;magic<3;magic++) for(CompressionType ct:CompressionType.values()){
      if(magic<2&&ct==CompressionType.ZSTD) continue;
      out(a[0],"java-v"+magic+"-"+ct.name+".bin",make(magic,ct,TimestampType.CREATE_TIME,0));
      if(magic>0) out(a[0],"java-v"+magic+"-"+ct.name+"-logappend.bin",make(magic,ct,TimestampType.LOG_APPEND_TIME,0));
      if(magic==2&&ct!=CompressionType.ZSTD) for(byte to=0;to<2;to++){
        MemoryRecords r=make(magic,ct,TimestampType.CREATE_TIME,1000);
        out(a[0],"java-down-v"+to+"-"+ct.name+".bin",(MemoryRecords)r.downConvert(to,1002,Time.SYSTEM).records());
      }
    }
  }
}
