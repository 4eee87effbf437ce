declare module "*/shading.js" {
  type Span = [number, number];
  const shading: {
    number(value: number): string;
    plain(value: unknown): string;
    safe(text: string): string;
    visible(text: string): string;
    level(value: number, scale: number): number;
    largest(values: number[]): number;
    toUnits(text: string, spans: Span[]): Span[];
    RTL: RegExp;
  };
  export default shading;
}
